"""Training losses as pure functions: one number a sample or a logit, the task takes the mean."""
