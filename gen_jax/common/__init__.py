"""What every room may use: the error a user sees, and how a door runs."""
