"""Face landmarks: heatmaps, read with sub-pixel accuracy."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common import ranges
from gen_jax.models.heads.landmarks import LandmarkNet


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """Integral regression (arXiv:1711.08229) with a Gaussian target for each heatmap.

    "points" float32 [points, 2] are x and y in fractions of the image's sides. A point outside of
    the image has no target.

    Attributes:
      points: Number of points, such as 5, 68 or 468.
      width: Channels of the decoder.
      spread: Standard deviation of the targets in cells of the heatmap, two pixels each.
      heatmap_weight: Weight of the cross-entropy to the targets beside the mean distance, which is
        in cells.
    """

    points: int = 5
    width: int = 32
    spread: float | int = 1.0
    heatmap_weight: float | int = 0.2

    inputs: ClassVar[tuple[str, ...]] = ("image",)
    is_resized: ClassVar[bool] = True

    def __post_init__(self):
        limits = {
            "points": ranges.AT_LEAST_1,
            "spread": ranges.POSITIVE,
            "heatmap_weight": ranges.NOT_NEGATIVE,
        }
        ranges.check_fields(self, limits, "config.task.head")

    def network(self):
        return LandmarkNet(self.points, self.width)

    def size(self, image_size):
        return image_size, image_size

    def targets(self, image_size):
        return {"points": jax.ShapeDtypeStruct((self.points, 2), jnp.float32)}

    def loss(self, output, batch):
        cells = jnp.asarray(output.shape[2:0:-1], jnp.float32)[None, None]
        truth = batch["points"]
        inside = ((truth >= 0.0) & (truth <= 1.0)).all(-1)
        count = jnp.maximum(inside.sum(), 1)
        distance = jnp.sqrt(jnp.square((expected(output) - truth) * cells).sum(-1) + 1e-6)
        target = jax.nn.softmax(self._target_logits(output.shape[1:3], truth))
        entropy = -(target * jax.nn.log_softmax(_flat(output))).sum(-1)
        terms = {
            "distance": (distance * inside).sum() / count,
            "heatmap": (entropy * inside).sum() / count,
        }
        return terms["distance"] + self.heatmap_weight * terms["heatmap"], terms

    def _target_logits(self, size, truth):
        """Returns the logarithm of a Gaussian around each point [b, n, cells], unnormalized."""
        places = _places(*size)
        cells = jnp.asarray(size[::-1], jnp.float32)[None, None, None]
        apart = (places[None, None] - truth[:, :, None]) * cells
        return -0.5 * jnp.square(apart).sum(-1) / self.spread**2

    def predict(self, output, size):
        """Gives "points" [b, n, 2] in fractions of the sides, and "confidence" [b, n], the largest
        probability of a cell.
        """
        peak = jax.nn.softmax(_flat(output)).max(-1)
        return {"points": expected(output), "confidence": peak}

    def describe(self, read, size):
        """Gives "points" [n, 2] in pixels, x and y, and "confidence"."""
        height, width = size
        return {**read, "points": read["points"] * [[width, height]]}


def expected(heatmaps: Float[Array, "b h w n"]) -> Float[Array, "b n 2"]:
    """Returns the expected place of each point in fractions of the sides: soft-argmax."""
    places = _places(*heatmaps.shape[1:3])
    return jnp.einsum("bnp,pc->bnc", jax.nn.softmax(_flat(heatmaps)), places)


def _flat(heatmaps):
    return heatmaps.reshape(len(heatmaps), -1, heatmaps.shape[-1]).swapaxes(1, 2)


def _places(height: int, width: int) -> Float[Array, "p 2"]:
    """Returns x and y of the centers of all cells, in fractions of the sides."""
    y, x = jnp.meshgrid(
        (jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width, indexing="ij"
    )
    return jnp.stack([x.ravel(), y.ravel()], -1)
