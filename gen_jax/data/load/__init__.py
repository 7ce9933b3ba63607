"""Reads data sets for training: the order of examples, the loader, and transforms by name."""
