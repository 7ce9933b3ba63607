"""Parameters beside others, for tests that want none of them to be zero."""

import jax
import jax.numpy as jnp
import numpy as np


def moved(params, scale, seed=0):
    """Returns parameters plus normal noise.

    Adds in NumPy: JAX would compile the addition for each shape.

    Args:
      params: A tree of arrays.
      scale: Standard deviation of the noise.
      seed: Seed of the noise.
    """
    rng = np.random.default_rng(seed)

    def move(p):
        noise = scale * rng.standard_normal(p.shape)
        return jnp.asarray(np.asarray(p) + noise.astype(p.dtype))

    return jax.tree.map(move, params)
