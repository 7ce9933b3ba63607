"""Photographs as files: decoding and encoding that keep metadata, depth and color."""
