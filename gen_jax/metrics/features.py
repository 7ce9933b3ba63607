"""Image features that need no download: an untrained convolutional network, always the same.

Random features see colour, contrast and texture, and not what an image shows.
Distances between them order runs on one data set at one resolution; they
are NOT comparable with Inception's FID or KID, nor across resolutions. Where
real encoder weights are at hand, use those.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError

_WIDTHS = (24, 40, 64)
_SMALLEST_SIDE = 8
_FAINT = 0.02  # below this a difference is not seen; an 8-bit step is 0.008


@functools.lru_cache(maxsize=4)
def _kernels(seed: int):
    # RandomState's stream is frozen by NumPy's policy; default_rng's may change.
    random, kernels, fan = np.random.RandomState(seed), [], 3
    for width in _WIDTHS:
        kernel = random.standard_normal((3, 3, fan, width))
        # He initialisation for a leaky slope of 0.2 keeps every stage's scale.
        kernel *= np.sqrt(2 / (1 + 0.2**2) / (9 * fan))
        # Half of the filters are blind to flat colour, which else hides all detail.
        kernel[..., ::2] -= kernel[..., ::2].mean((0, 1), keepdims=True)
        kernels.append(kernel.astype(np.float32))
        fan = width
    return tuple(kernels)


def random_conv_features(
    images: Float[Array | np.ndarray, "b h w 3"], seed: int = 0
) -> Float[Array, "b d"]:
    """Mean and log standard deviation over the image, at three stages of random filters.

    Args:
        images: RGB in [0, 1], at least 8 pixels a side, all sets at the same size.
        seed: of the weights; features of different seeds do not compare.

    Returns:
        [b, 256] float32, each about 1 in size.
    """
    if min(images.shape[1:3]) < _SMALLEST_SIDE:
        raise UserError(f"images of {images.shape[1:3]}: expected at least 8 pixels a side")
    x, pooled = jnp.asarray(images, jnp.float32) * 2 - 1, []
    for kernel in _kernels(seed):
        x = jax.lax.conv_general_dilated(
            x,
            jnp.asarray(kernel),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,
        )
        x = jax.nn.leaky_relu(x, 0.2)
        # In logarithms a blur that halves the detail counts alike in flat and in busy images.
        pooled += [jnp.mean(x, (1, 2)), jnp.log(jnp.std(x, (1, 2)) + _FAINT)]
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    return jnp.concatenate(pooled, axis=-1)
