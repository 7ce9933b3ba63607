"""Perceptual terms: a `PerceptualFn` is (x, y) -> [b] on images [b, h, w, c] in [-1, 1].

Two terms that need no weights; LPIPS, which does, is joined to them in `tasks.perceptual`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError

PerceptualFn = Callable[[Array, Array], Array]

_WIDTHS = (16, 32, 64)


def multiscale_gradient_loss(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], levels: int = 3
) -> Float[Array, "b"]:
    """Mean absolute difference of the finite differences, over an averaging pyramid.

    It weighs edges over flat areas, at each of `levels` scales alike, and does
    not see a constant offset: a pixel loss goes beside it.

    Args:
        x: images, at least 2^levels pixels a side.
        y: what they are compared with.
        levels: scales, each half the one before.
    """
    if min(x.shape[1:3]) < 2**levels:
        raise UserError(f"levels={levels}: images of {x.shape[1:3]} are smaller than {2**levels}")
    # Every step is linear, so the pyramid of the difference is that of both.
    difference, total = x.astype(jnp.float32) - y.astype(jnp.float32), jnp.zeros(x.shape[0])
    for level in range(levels):
        if level:
            difference = _half(difference)
        for axis in (1, 2):
            total += jnp.abs(jnp.diff(difference, axis=axis)).mean(axis=(1, 2, 3))
    return total / (2 * levels)


def _half(x):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4.0


def random_feature_loss(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], seed: int = 0
) -> Float[Array, "b"]:
    """Squared distance of normalised features of a random three-layer convolution network.

    Untrained features already carry a part of what LPIPS measures (arXiv
    1801.03924, figure 4). Each position's features are scaled to length 1 and
    their squared distance is averaged over positions and layers, so that the
    result is in [0, 4].

    Args:
        x: images.
        y: what they are compared with.
        seed: of the weights.
    """
    # RandomState's stream is frozen by NumPy's policy; default_rng's may change.
    random, total, width = np.random.RandomState(seed), jnp.zeros(x.shape[0]), x.shape[-1]
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    for channels in _WIDTHS:
        kernel = random.standard_normal((3, 3, width, channels)) / np.sqrt(9 * width)
        x, y = (_layer(v, jnp.asarray(kernel, jnp.float32)) for v in (x, y))
        total += jnp.sum((_unit(x) - _unit(y)) ** 2, axis=-1).mean(axis=(1, 2))
        width = channels
    return total / len(_WIDTHS)


def _layer(x, kernel):
    x = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.leaky_relu(x, 0.2)


def _unit(x):
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-6)


TERMS: dict[str, PerceptualFn] = {
    "multiscale_gradient": multiscale_gradient_loss,
    "random_feature": random_feature_loss,
}
"""Name in config -> term."""
