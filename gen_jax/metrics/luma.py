"""The luma channel, on which super-resolution is measured."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def bt601_luma(x: Float[Array | np.ndarray, "b h w 3"]) -> Float[Array, "b h w 1"]:
    """ITU-R BT.601 studio-range Y of RGB in [0, 1]: between 16/255 and 235/255.

    This is MATLAB's rgb2ycbcr, on which the literature's Y-PSNR rests.
    """
    weights = jnp.array([65.481, 128.553, 24.966], jnp.float32) / 255
    weighted = jnp.asarray(x, jnp.float32) * weights[None, None, None]
    return jnp.sum(weighted, axis=-1, keepdims=True) + 16 / 255
