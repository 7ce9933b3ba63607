"""Frozen towers in Flax, and the ways of published weights in and out."""

from typing import Any


def load(name: str, weights: Any = None, **options: Any):
    """A tower and its parameters by name; see `catalog.load`."""
    from gen_jax.encoders import catalog

    return catalog.load(name, weights, **options)
