"""A region that is known beforehand, so that sampling fills in what is around it."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Known(NamedTuple):
    """Inpainting by replacement (arXiv:2201.09865 without its resampling), as in diffusers.

    Before each call of the network but the first one, the region is replaced by its content with
    noise of that call's level, and in the result by its content. The first state is the caller's.

    Attributes:
        mask: Where the content is known; broadcastable to a state.
        x_0: The content.
        eps: Its noise, one for all levels.
    """

    mask: Bool[Array, "b ..."]
    x_0: Float[Array, "b ..."]
    eps: Float[Array, "b ..."]

    def put(self, x, i, alpha, sigma):
        """Returns the state x before call i, which is at the level of alpha and sigma."""
        at_level = alpha * self.x_0 + sigma * self.eps
        return jnp.where(self.mask & (i > 0), at_level, x)

    def finish(self, x):
        """Returns the result x with the content in it."""
        return jnp.where(self.mask, self.x_0, x)
