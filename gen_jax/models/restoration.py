"""The contract of restoration networks: what they are conditioned on, and what they return."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import flax.struct
import jax
from jaxtyping import Array, Float

Conditions = Mapping[str, jax.Array]
"""Name in `RestorationNetwork.conditions` -> array. "sigma" [b]: standard deviation of the noise on
images in [0, 1]. "degradation" [b, p]: strengths of `data.degradations.PARAMETERS`. "text"
[b, n, d] comes with "text_mask" [b, n], True at real tokens.
"""


@flax.struct.dataclass
class RestorationOutput:
    """Result of a restoration network.

    Attributes:
      image: Restored images [b, h, w, c], float32, not clipped.
      gates: Strengths in [0, 1] with which parts of the network act [b, n], or None.
    """

    image: Float[Array, "b h w c"]
    gates: Float[Array, "b n"] | None = None


class RestorationNetwork(nn.Module):
    """Base of networks that restore images; a new one is a line in `tasks.restore.NETWORKS`.

    Its `__call__` may have any signature; `restore` is what the stage and the pipelines call.

    Attributes:
      conditions: Names of the inputs beside the image: of "sigma", "degradation" and "text".
    """

    conditions: ClassVar[tuple[str, ...]] = ()

    def restore(
        self, x: Float[Array, "b h w c"], conditions: Conditions, deterministic: bool = True
    ) -> RestorationOutput:
        """Restores images; by default with `__call__`, which takes the image alone.

        Args:
          x: Degraded images in about [0, 1].
          conditions: What `conditions` names.
          deterministic: Whether dropout is off; otherwise there is a stream "dropout".
        """
        return RestorationOutput(self(x))
