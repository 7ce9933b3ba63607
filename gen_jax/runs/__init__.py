"""A run directory: what lies where, what it says of itself, and how its weights are read."""
