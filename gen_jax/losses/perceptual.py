"""Perceptual terms: functions `(x, y) -> [b]` on images in [-1, 1].

Until a trained encoder (LPIPS) stands here, two terms that need no weights.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _half(x):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4.0


def _gradients(x):
    return x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]


def multiscale_gradient_loss(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], levels: int = 3
) -> Float[Array, "b"]:
    """Mean absolute difference of the finite differences, over an averaging pyramid.

    It weighs edges over flat areas, at each of `levels` scales alike.
    """
    total = jnp.zeros(x.shape[0])
    for level in range(levels):
        for a, b in zip(_gradients(x), _gradients(y)):
            total += jnp.abs(a - b).mean(axis=(1, 2, 3))
        if level + 1 < levels:
            x, y = _half(x), _half(y)
    return total / (2 * levels)


def random_feature_loss(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], seed: int = 0
) -> Float[Array, "b"]:
    """Squared distance of normalised features of a random three-layer convolution network.

    Untrained features already carry a part of what LPIPS measures (arXiv 1801.03924, figure 4).
    """
    rng = np.random.default_rng(seed)
    total, width = jnp.zeros(x.shape[0]), x.shape[-1]
    for channels in (16, 32, 64):
        shape = (3, 3, width, channels)
        kernel = jnp.asarray(rng.normal(size=shape) / np.sqrt(9 * width), jnp.float32)
        x, y = (
            jax.nn.leaky_relu(
                jax.lax.conv_general_dilated(
                    v, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                ),
                0.2,
            )
            for v in (x, y)
        )
        a, b = (v / jnp.sqrt(jnp.sum(v**2, -1, keepdims=True) + 1e-6) for v in (x, y))
        total += ((a - b) ** 2).sum(-1).mean(axis=(1, 2))
        width = channels
    return total / 3


TERMS = {"multiscale_gradient": multiscale_gradient_loss, "random_feature": random_feature_loss}
"""Name in config -> term."""
