"""Builds data sets: sources, quality checks, and shards with their dataset.json."""
