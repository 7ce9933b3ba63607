"""Random keys as named streams, so that a resumed run repeats the stream exactly."""

import zlib
from collections.abc import Sequence

import jax


def root_key(seed: int) -> jax.Array:
    """The key that all streams of a run come from."""
    return jax.random.key(seed)


def stream_keys(
    root: jax.Array, names: Sequence[str], step: jax.Array | int
) -> dict[str, jax.Array]:
    """One key a stream: `fold_in(fold_in(root, name), step)`.

    Args:
      root: the run's key.
      names: streams, for example `("t", "noise")`; the key does not depend on their order.
      step: the training step.
    """
    return {
        name: jax.random.fold_in(jax.random.fold_in(root, zlib.crc32(name.encode())), step)
        for name in names
    }
