"""Generative image models in JAX: one trainer, from a laptop to a pod."""

__version__ = "0.1.0"
