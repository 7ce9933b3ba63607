"""LPIPS (arXiv 1801.03924): a distance between images that people's judgements were fitted to."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.encoders import lpips_backbones as backbones
from gen_jax.encoders.frozen_layers import HIGHEST
from gen_jax.encoders.weights import Port

BACKBONES = {
    "alex": backbones.AlexNet,
    "vgg": backbones.VGG16,
    "squeeze": backbones.SqueezeNet,
    "st_alex": backbones.ShiftTolerantAlexNet,
}
"""Name -> tower: version 0.1's three, and ShiftTolerant-LPIPS's (version ST0.0)."""

_HEADS = ((r"^net\.", ""), (r"^(lin\d)\.weight$", r"\1.model.1.weight"))
_CONSTANTS = (r"^scaling_layer\.", r"\.filt$")


def _port(backbone: Port) -> Port:
    return dataclasses.replace(
        backbone, rename=(*_HEADS, *backbone.rename), ignore=(r"^classifier\.", *_CONSTANTS)
    )


PORTS: dict[str, Port] = {
    name: _port(backbones.SHIFT_TOLERANT if name == "st_alex" else backbones.TORCHVISION)
    for name in BACKBONES
}
"""Name -> spelling of the tower's file and the heads' file taken together.

Version 0.1 has two: torchvision's for the tower and `lpips/weights/v0.1/NAME.pth` for the
heads. `st_alex` has one, with both.
"""

_TINY = 1e-10  # added to lengths, as LPIPS does


class LPIPS(nn.Module):
    """The distance; parameters under `net` (the tower) and `lin0`, `lin1`, ... (the heads).

    Attributes:
      net: name of the tower, a key of `BACKBONES`.
      precision: of the products; None for JAX's default, which is coarser on accelerators.
    """

    net: str = "alex"
    precision: Any = HIGHEST

    def _tower(self) -> Any:
        if self.net not in BACKBONES:
            raise UserError(f"LPIPS.net={self.net!r}: expected one of {', '.join(BACKBONES)}")
        return BACKBONES[self.net]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"]) -> Float[Array, "b"]:
        """Distance of each pair, 0 where they are equal, symmetric; no unit.

        Args:
          x: RGB in [-1, 1].
          y: what they are compared with.

        Returns:
          [b] float32: over the taps, the sum of the weighted squared differences of the unit
          features, averaged over positions.
        """
        tower, total = self._tower()(self.precision, name="net"), jnp.zeros(x.shape[0])
        # One after the other: of a slope by x alone, nothing is computed for y.
        for i, (a, b) in enumerate(zip(tower(x), tower(y))):
            head = nn.Dense(1, use_bias=False, precision=self.precision, name=f"lin{i}")
            total += head((unit(a) - unit(b)) ** 2).mean(axis=(1, 2, 3))
        return total

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array, ...]:
        """Zeros of the smallest shapes that `init` takes."""
        size = self._tower().least_size
        return 2 * (jnp.zeros((batch_size, size, size, 3)),)


def unit(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Each position's features scaled to length 1; where all are zero they stay, without slope."""
    squared = jnp.sum(x**2, axis=-1, keepdims=True)
    # The slope of a root is infinite at zero, and infinity times zero no number.
    length = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
    return jnp.where(squared > 0, x / (length + _TINY), 0.0)
