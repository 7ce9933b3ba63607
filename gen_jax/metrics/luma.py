"""What super-resolution results are measured on: the luma channel, borders cropped."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError


def bt601_luma(x: Float[Array | np.ndarray, "b h w 3"]) -> Float[Array, "b h w 1"]:
    """ITU-R BT.601 studio-range Y of RGB in [0, 1]: between 16/255 and 235/255.

    This is MATLAB's rgb2ycbcr, on which the literature's Y-PSNR rests.
    """
    weights = jnp.array([65.481, 128.553, 24.966], jnp.float32) / 255
    weighted = jnp.asarray(x, jnp.float32) * weights[None, None, None]
    return jnp.sum(weighted, axis=-1, keepdims=True) + 16 / 255


def crop_border(x: Float[Array | np.ndarray, "b h w c"], border: int) -> Float[Array, "b i j c"]:
    """Drops `border` pixels from each side: the scale, in super-resolution."""
    if not 0 <= 2 * border < min(x.shape[1:3]):
        raise UserError(f"border={border}: expected 0 to half of the image's {x.shape[1:3]}")
    return jnp.asarray(x)[:, border : x.shape[1] - border, border : x.shape[2] - border]
