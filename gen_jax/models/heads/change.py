"""Change detection: class logits per pixel from the features of two images."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.ffdnet import depth_to_space
from gen_jax.models.heads.decoder import PyramidDecoder
from gen_jax.models.heads.trunk import Pyramid


class ChangeNet(nn.Module):
    """Siamese network: the trunk encodes both images, the decoder gets features and differences
    (FC-Siam-diff, arXiv:1810.08462, with the features beside them).

    Attributes:
      classes: Number of classes, the first one for no change.
      width: Channels of the decoder.
      dtype: Compute dtype; parameters and logits are float32.
    """

    classes: int = 2
    width: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, before: Pyramid, after: Pyramid) -> Float[Array, "b h w k"]:
        pairs = zip(before, after, strict=True)
        pyramid = tuple(jnp.concatenate([jnp.abs(a - b), a, b], -1) for a, b in pairs)
        x = PyramidDecoder(self.width, dtype=self.dtype, name="decoder")(pyramid)
        x = nn.Dense(4 * self.classes, dtype=jnp.float32, name="logits")(x)
        return depth_to_space(x)
