"""Ways in which a vector or a text steers feature maps; silent until they are trained."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gen_jax.models.layers.attention import Attention
from gen_jax.models.layers.norms import layer_norm

_ZERO = nn.initializers.zeros_init()


class FiLM(nn.Module):
    """Feature-wise linear modulation (arXiv:1709.07871): (1 + gamma) x + beta, both 0 at first.

    Attributes:
      dtype: compute dtype.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b d"]
    ) -> Float[Array, "b h w c"]:
        """`embedding` decides gamma and beta of each image's channels, alike everywhere."""
        both = nn.Dense(2 * x.shape[-1], kernel_init=_ZERO, dtype=self.dtype, name="gamma_beta")(
            jax.nn.silu(embedding)
        )
        gamma, beta = jnp.split(both[:, None, None, :], 2, axis=-1)
        return x * (1.0 + gamma) + beta


class TextCrossAttention(nn.Module):
    """Residual attention of a feature map's places to the tokens of a text.

    What it adds has a weight for each channel, `scale`, that is 0 at first: the module then is the
    identity, whatever the text.

    Attributes:
      heads: number of heads; a divisor of the channels.
      dtype: compute dtype; logits and softmax are float32.
    """

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        text: Float[Array, "b n d"],
        mask: Bool[Array, "b n"] | None = None,
        strength: Float[Array, "b"] | None = None,
    ) -> Float[Array, "b h w c"]:
        """Attends.

        Args:
          x: the map, whose places ask.
          text: a state a token; each carries its position already.
          mask: True at the tokens that may be attended to, at least one a text; None for all.
          strength: what is added is multiplied by it, for each image; None for 1.
        """
        b, h, w, c = x.shape
        y = layer_norm("norm", dtype=self.dtype)(x).reshape(b, h * w, c)
        attention = Attention(self.heads, dtype=self.dtype, name="attention")
        y = attention(y, text.astype(self.dtype), mask).reshape(b, h, w, c)
        scale = self.param("scale", _ZERO, (c,), jnp.float32).astype(self.dtype)
        y = y * scale[None, None, None, :]
        if strength is not None:
            y = y * strength.astype(self.dtype)[:, None, None, None]
        return x + y


def masked_mean(
    states: Float[Array, "b n d"], mask: Bool[Array, "b n"] | None = None
) -> Float[Array, "b d"]:
    """Mean over the tokens that count."""
    if mask is None:
        return states.mean(1)
    weight = mask.astype(states.dtype)[..., None]
    return (states * weight).sum(1) / jnp.maximum(weight.sum(1), 1.0)
