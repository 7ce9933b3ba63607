"""The block of Swin transformers (arXiv:2103.14030) over feature maps."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.layers.activations import get_activation
from gen_jax.models.layers.norms import layer_norm
from gen_jax.models.layers.patch_conv import TORCH_INIT
from gen_jax.models.layers.window_attention import HEADS_FIRST, WindowAttention


class SwinBlock(nn.Module):
    """Windowed attention and a wider perceptron, each normalised and residual.

    Attributes:
      heads, window_size, shift: of the attention.
      drop_path: probability that an image skips a branch in training (arXiv:1603.09382).
      dtype: compute dtype.
      mlp_ratio: width of the perceptron over that of the map.
      act_fn: its activation.
      residual_scale: what both branches are multiplied by.
    """

    heads: int
    window_size: int
    shift: int
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    mlp_ratio: int = 4
    act_fn: str = "gelu"
    residual_scale: float = 1.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], deterministic: bool = True
    ) -> Float[Array, "b h w c"]:
        # One draw an image: the rest is broadcast.
        drop = nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3), deterministic=deterministic)
        dense = functools.partial(nn.Dense, kernel_init=TORCH_INIT, dtype=self.dtype)
        attention = WindowAttention(
            self.heads,
            self.window_size,
            self.shift,
            HEADS_FIRST,
            TORCH_INIT,
            self.dtype,
            name="msa",
        )
        x = x + self._scaled(drop(attention(layer_norm("ln1", dtype=self.dtype)(x))))
        width = x.shape[-1]
        y = dense(self.mlp_ratio * width, name="mlp_0")(layer_norm("ln2", dtype=self.dtype)(x))
        return x + self._scaled(drop(dense(width, name="mlp_2")(get_activation(self.act_fn)(y))))

    def _scaled(self, branch):
        return branch if self.residual_scale == 1.0 else self.residual_scale * branch
