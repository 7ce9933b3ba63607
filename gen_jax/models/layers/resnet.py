"""The residual block that the autoencoder and the UNet are made of."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.layers.activations import get_activation
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.norms import GroupNorm


class ResnetBlock2D(nn.Module):
    """Norm, activation, 3x3 convolution, twice; the time is told in between.

    Attributes:
      features: channels of the result; the skip gets a 1x1 convolution where they change.
      norm_num_groups, norm_eps: of both group norms.
      act_fn: activation's name.
      time_scale_shift: the time scales and shifts the second norm, and is not just added.
      dropout: rate before the second convolution.
      zero_init: start the second convolution at zero, so that the block starts as identity.
      dtype: compute dtype.
    """

    features: int
    norm_num_groups: int = 32
    norm_eps: float = 1e-6
    act_fn: str = "silu"
    dropout: float = 0.0
    time_scale_shift: bool = False
    zero_init: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        temb: Float[Array, "b t"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "b h w d"]:
        """Applies the block; without `temb` it has no parameters for the time."""
        act = get_activation(self.act_fn)
        h = GroupNorm(self.norm_num_groups, self.norm_eps, self.dtype, name="norm1")(x)
        h = Conv(self.features, (3, 3), padding=1, dtype=self.dtype, name="conv1")(act(h))
        told = None
        if temb is not None:
            width = (2 if self.time_scale_shift else 1) * self.features
            told = nn.Dense(width, dtype=self.dtype, name="time_emb_proj")(act(temb))
            told = told[:, None, None, :]
        if told is not None and not self.time_scale_shift:
            h = h + told
        h = GroupNorm(self.norm_num_groups, self.norm_eps, self.dtype, name="norm2")(h)
        if told is not None and self.time_scale_shift:
            scale, shift = jnp.split(told, 2, axis=-1)
            h = h * (1 + scale) + shift
        h = act(h)
        if self.dropout:
            h = nn.Dropout(self.dropout, name="dropout")(h, deterministic=deterministic)
        init = nn.initializers.zeros_init() if self.zero_init else nn.initializers.lecun_normal()
        h = Conv(
            self.features, (3, 3), padding=1, kernel_init=init, dtype=self.dtype, name="conv2"
        )(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, (1, 1), dtype=self.dtype, name="conv_shortcut")(x)
        return x.astype(h.dtype) + h
