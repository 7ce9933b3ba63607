"""Pixel errors of a batch: mean squared error and peak signal-to-noise ratio."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def mse(
    x: Float[Array | np.ndarray, "b h w c"], y: Float[Array | np.ndarray, "b h w c"]
) -> Float[Array, "b"]:
    """Mean squared error of each image, in squared units of the images."""
    difference = jnp.asarray(x, jnp.float32) - jnp.asarray(y, jnp.float32)
    return jnp.mean(difference**2, axis=(1, 2, 3))


def psnr(
    x: Float[Array | np.ndarray, "b h w c"],
    y: Float[Array | np.ndarray, "b h w c"],
    data_range: float | int = 1.0,
) -> Float[Array, "b"]:
    """Peak signal-to-noise ratio of each image in dB: 10 log10(data_range^2 / mse).

    It clips and quantises nothing: a protocol that rounds to 8 bits does so
    first. The mean over a data set is the mean of these, not of the errors.

    Args:
        x: images.
        y: what they are compared with.
        data_range: the largest possible value minus the smallest.

    Returns:
        [b]; infinite where the two are equal.
    """
    return 20 * jnp.log10(jnp.float32(data_range)) - 10 * jnp.log10(mse(x, y))
