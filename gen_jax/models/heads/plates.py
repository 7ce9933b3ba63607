"""Plate reader: character logits along the width, for connectionist temporal classification."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.heads.decoder import PyramidDecoder
from gen_jax.models.heads.trunk import Pyramid
from gen_jax.models.layers.conv import Conv

_HALVINGS = 2  # of the height alone


class PlateNet(nn.Module):
    """Decodes a pyramid at a quarter of the image's size and gathers its rows (CRNN without
    recurrence, arXiv:1507.05717).

    Attributes:
      classes: Number of characters and the blank.
      width: Channels.
      dtype: Compute dtype; parameters and logits are float32.
    """

    classes: int
    width: int = 48
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pyramid: Pyramid) -> Float[Array, "b t k"]:
        """Returns logits of each column; there are a quarter as many as the image has pixels."""
        x = PyramidDecoder(self.width, level=1, dtype=self.dtype, name="decoder")(pyramid)
        for i in range(_HALVINGS):
            wide = self.width * (2 + i) // 2
            x = nn.Conv(wide, (3, 3), strides=(2, 1), dtype=self.dtype, name=f"down_{i}")(x)
            x = jax.nn.relu(x)
        # All rows that are left by their place, so that the reader knows top from bottom.
        rows = jnp.linspace(-1.0, 1.0, x.shape[1])[None, :, None, None]
        x = jnp.concatenate([x.mean(1), (x * rows).mean(1)], -1)[:, None]
        x = jax.nn.relu(Conv(2 * self.width, (1, 5), dtype=self.dtype, name="along")(x))
        return nn.Dense(self.classes, dtype=jnp.float32, name="logits")(x)[:, 0]
