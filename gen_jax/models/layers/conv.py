"""3x3 convolutions whose weight gradient is fast on a CPU too.

XLA's CPU backend computes the gradient with respect to the kernel as a convolution with a window
as large as the image, at a half to a third of the speed of the forward pass. As nine matrix
products, one for each place of the kernel, it runs at about the speed of a matrix product.
docs/results/performance.md has the measurement. JAX cannot take forward-mode derivatives of a
function with its own reverse-mode rule: see `forward_mode`.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

_IS_FORWARD_MODE = contextvars.ContextVar("is_forward_mode", default=False)

_NHWC = ("NHWC", "HWIO", "NHWC")


def _plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_NHWC)


@jax.custom_vjp
def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of `x` [b, h, w, c] with `kernel` [3, 3, c, d], padded by one: [b, h, w, d]."""
    return _plain(x, kernel)


def _forward(x, kernel):
    return _plain(x, kernel), (x, kernel)


def _backward(saved, g):
    x, kernel = saved
    dx = _plain(g, kernel[::-1, ::-1].swapaxes(2, 3))
    height, width, channels = x.shape[1:]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    flat = g.reshape(-1, g.shape[-1])
    products = [
        padded[:, i : i + height, j : j + width].reshape(-1, channels).T @ flat
        for i in range(3)
        for j in range(3)
    ]
    return dx, jnp.stack(products).reshape(kernel.shape)


conv3x3.defvjp(_forward, _backward)


@contextlib.contextmanager
def forward_mode() -> Iterator[None]:
    """Builds the convolutions of networks that are applied inside so that `jax.jvp` can be taken.

    Their outputs are the same, and their gradients in reverse mode are slower on a CPU.
    """
    token = _IS_FORWARD_MODE.set(True)
    try:
        yield
    finally:
        _IS_FORWARD_MODE.reset(token)


def _general(lhs, rhs, window_strides, padding, *args, **kwargs):
    """Stands in for `jax.lax.conv_general_dilated` inside `nn.Conv`."""
    ours = (
        jax.default_backend() == "cpu"
        and not _IS_FORWARD_MODE.get()
        and rhs.shape[:2] == (3, 3)
        and rhs.ndim == 4
        and lhs.dtype == jnp.float32
        and tuple(window_strides) == (1, 1)
        and (padding == "SAME" or list(map(tuple, padding)) == [(1, 1), (1, 1)])
        and kwargs.get("feature_group_count", 1) == 1
        and lhs.shape[-1] == rhs.shape[2]
    )
    if ours:
        return conv3x3(lhs, rhs)
    return jax.lax.conv_general_dilated(lhs, rhs, window_strides, padding, *args, **kwargs)


Conv = functools.partial(nn.Conv, conv_general_dilated=_general)
"""`nn.Conv` with the faster gradient where it applies; parameters and results are the same."""
