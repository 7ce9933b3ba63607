"""Normalisation that stays accurate under bf16: statistics and arithmetic in float32."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError


class GroupNorm(nn.Module):
    """Group normalisation over all axes between the first and the last (arXiv:1803.08494).

    The variance is taken in two passes: E[x^2] - E[x]^2 cancels to noise once the mean is
    some hundred times the deviation. Each pass reduces the spatial axes first and the
    channels of a group afterwards, which keeps the long reduction contiguous in NHWC.

    Attributes:
      num_groups: groups that the last axis is divided into.
      epsilon: added to the variance.
      dtype: of the result. Parameters (`scale`, `bias`) and arithmetic are float32.
    """

    num_groups: int = 32
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        channels = x.shape[-1]
        if channels % self.num_groups:
            raise UserError(
                f"norm_num_groups={self.num_groups} does not divide {channels} channels: "
                "choose a divisor of every entry of block_out_channels"
            )
        scale = self.param("scale", nn.initializers.ones_init(), (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32)
        lead = (None,) * (x.ndim - 1)

        x = x.astype(jnp.float32)
        x = x - _group_mean(x, self.num_groups)
        inverse = jax.lax.rsqrt(_group_mean(jnp.square(x), self.num_groups) + self.epsilon)
        y = x * (inverse * scale[lead]) + bias[lead]
        return y.astype(self.dtype)


def _group_mean(x: jax.Array, num_groups: int) -> jax.Array:
    """Mean of each group, repeated for its channels: [b, ..., c] -> [b, 1, ..., 1, c]."""
    batch, channels = x.shape[0], x.shape[-1]
    space = tuple(range(1, x.ndim - 1))
    means = x.mean(axis=space).reshape(batch, num_groups, channels // num_groups)
    means = jnp.broadcast_to(means.mean(axis=-1, keepdims=True), means.shape)
    return means.reshape(batch, *(1 for _ in space), channels)


def layer_norm(name: str, epsilon: float = 1e-5, dtype: Any = jnp.float32) -> nn.LayerNorm:
    """Layer normalisation over the last axis, in float32 and two passes."""
    return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, dtype=dtype, name=name)
