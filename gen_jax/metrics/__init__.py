"""Metrics as pure functions, each checked against a reference."""
