"""Structural similarity (Wang et al. 2004, doi 10.1109/TIP.2003.819861), batched."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError

_GAUSSIAN_RADIUS, _GAUSSIAN_SIGMA = 5, 1.5
_UNIFORM_SIZE = 7


def ssim(
    x: Float[Array | np.ndarray, "b h w c"],
    y: Float[Array | np.ndarray, "b h w c"],
    data_range: float | int = 1.0,
    window: str = "gaussian",
) -> Float[Array, "b"]:
    """Mean structural similarity of each image, over channels and over whole windows.

    Args:
        x: images, at least as large as the window.
        y: what they are compared with.
        data_range: the largest possible value minus the smallest.
        window: `gaussian` is the paper's, 11x11 with sigma 1.5 and population
            covariance (scikit-image: `gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False`); `uniform` is scikit-image's default,
            7x7 with sample covariance.

    Returns:
        [b] in [-1, 1], 1 where the two are equal.
    """
    if window == "gaussian":
        offsets = np.arange(-_GAUSSIAN_RADIUS, _GAUSSIAN_RADIUS + 1)
        weights = np.exp(-0.5 * (offsets / _GAUSSIAN_SIGMA) ** 2)
        unbias = 1.0
    elif window == "uniform":
        weights = np.ones(_UNIFORM_SIZE)
        unbias = _UNIFORM_SIZE**2 / (_UNIFORM_SIZE**2 - 1)
    else:
        raise UserError(f"window={window!r}: expected gaussian or uniform")
    if min(x.shape[1:3]) < len(weights):
        raise UserError(f"images of {x.shape[1:3]}: expected at least {len(weights)} pixels a side")
    weights = jnp.asarray(weights / weights.sum(), jnp.float32)

    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    # Covariances do not change with an offset, and float32 keeps more of them near zero.
    offset = jnp.mean(x, axis=(1, 2), keepdims=True)
    x, y = x - offset, y - offset
    mean_x, mean_y, *squares = _blur(jnp.stack([x, y, x * x, y * y, x * y]), weights)
    var_x = unbias * (squares[0] - mean_x**2)
    var_y = unbias * (squares[1] - mean_y**2)
    covariance = unbias * (squares[2] - mean_x * mean_y)
    mean_x, mean_y = mean_x + offset, mean_y + offset

    c_1, c_2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c_1) / (mean_x**2 + mean_y**2 + c_1)
    structure = (2 * covariance + c_2) / (var_x + var_y + c_2)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


@jax.jit
def _blur(x, weights):
    """Weighted means of all windows that lie inside: [n, b, h, w, c] -> [n, b, h - k + 1, ...]."""
    # Sums of shifted images: a convolution from one channel to one runs 20 times slower on a CPU.
    for axis in (2, 3):
        length = x.shape[axis] - len(weights) + 1
        shifted = (jax.lax.slice_in_dim(x, i, i + length, axis=axis) for i in range(len(weights)))
        x = sum(weight * image for weight, image in zip(weights, shifted))
    return x
