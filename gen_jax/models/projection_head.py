"""The head that self-distillation compares tokens by."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class ProjectionHead(nn.Module):
    """MLP, a normalised bottleneck, and cosines to learnt prototypes (arXiv:2104.14294).

    Attributes:
      hidden: width of the MLP.
      bottleneck: width that is normalised.
      prototypes: outputs.
      layers: dense layers up to the bottleneck.
    """

    hidden: int = 512
    bottleneck: int = 128
    prototypes: int = 512
    layers: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "n c"]) -> Float[Array, "n prototypes"]:
        """Cosines to the prototypes."""
        for i in range(self.layers - 1):
            x = nn.gelu(nn.Dense(self.hidden, name=f"fc_{i}")(x))
        x = nn.Dense(self.bottleneck, name=f"fc_{self.layers - 1}")(x)
        x = x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-12)
        kernel = self.param(
            "prototypes", nn.initializers.normal(1.0), (self.bottleneck, self.prototypes)
        )
        kernel = kernel / jnp.sqrt((kernel**2).sum(0, keepdims=True) + 1e-12)
        return x @ kernel
