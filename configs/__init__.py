"""Recipes: one file each, `get_config(arg)` gives a locked ConfigDict of plain values."""
