"""Small networks that read images: a trunk of features at several sizes, and a head per domain."""
