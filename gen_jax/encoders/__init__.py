"""Frozen towers in Flax, and the ways of published weights in and out."""

from typing import Any


def load(name: str, weights: Any = None, **options: Any):
    """A tower and its parameters by name; see `catalog.load`."""
    from gen_jax.encoders import catalog

    return catalog.load(name, weights, **options)


def parse(spec: str) -> tuple[str, str | None]:
    """Splits "NAME[:WEIGHTS]"; see `catalog.parse`."""
    from gen_jax.encoders import catalog

    return catalog.parse(spec)
