"""Stored features of frozen encoders: their codec, pyramids, and folders of them."""
