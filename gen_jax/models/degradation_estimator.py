"""Estimates the kind and strength of the degradation of an image, from the image alone."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.models.ffdnet import space_to_depth
from gen_jax.models.layers.conv import Conv
from gen_jax.models.layers.patch_conv import DownConv


class DegradationEstimator(nn.Module):
    """Convolutions at 1/2, 1/4 and 1/8 of the size, pooled to means and standard deviations.

    Nothing depends on the size of the image, so that estimates of parts may be averaged.

    Attributes:
      outputs: Number of strengths to estimate.
      widths: Channels at each size.
      dtype: Compute dtype; parameters and the pooled statistics are float32.
    """

    outputs: int
    widths: tuple[int, ...] = (32, 64, 96)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b p"]:
        """Returns estimates, float32, not clipped; `x` is in about [0, 1] and of any size."""
        multiple = 2 ** len(self.widths)
        pads = [(0, -side % multiple) for side in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="edge")
        # Around mid-gray: what counts is the deviation from the surroundings.
        x = space_to_depth(x - 0.5).astype(self.dtype)
        pooled = []
        for level, width in enumerate(self.widths):
            if level:
                x = DownConv(width, self.dtype, name=f"down_{level}")(x)
            for i in range(2):
                x = jax.nn.relu(Conv(width, (3, 3), dtype=self.dtype, name=f"conv_{level}_{i}")(x))
            wide = x.astype(jnp.float32)
            mean = wide.mean((1, 2), keepdims=True)
            spread = jnp.sqrt(jnp.square(wide - mean).mean((1, 2)) + 1e-6)
            pooled += [mean[:, 0, 0], spread]
        y = nn.Dense(128, dtype=jnp.float32, name="hidden")(jnp.concatenate(pooled, -1))
        return nn.Dense(self.outputs, dtype=jnp.float32, name="out")(jax.nn.relu(y))

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array, ...]:
        """Zeros of the smallest shape that is not padded."""
        side = 2 ** len(self.widths)
        return (jnp.zeros((batch_size, side, side, 3)),)
