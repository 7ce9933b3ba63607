"""Segmentation: a class per pixel."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from gen_jax.common import ranges
from gen_jax.data.load.mask_steps import IGNORED
from gen_jax.losses import overlap
from gen_jax.models.heads.segmentation import SegmentationNet
from gen_jax.models.heads.trunk import crop
from gen_jax.tasks.head_objectives.base import Maps


@dataclasses.dataclass(frozen=True)
class Segmentation(Maps):
    """Cross-entropy and soft Dice loss of label maps.

    "mask" uint8 [h, w] holds class indices; values from `classes` on are ignored.

    Attributes:
      classes: Number of classes, 2 or more.
      width: Channels of the decoder.
      dice_weight: Weight of the soft Dice loss beside the cross-entropy.
    """

    classes: int = 2
    width: int = 32
    dice_weight: float | int = 1.0

    inputs: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self):
        limits = {"classes": ranges.Range(2, IGNORED), "dice_weight": ranges.NOT_NEGATIVE}
        ranges.check_fields(self, limits, "config.task.head")

    def network(self):
        return SegmentationNet(self.classes, self.width)

    def targets(self, image_size):
        return {"mask": jax.ShapeDtypeStruct((image_size, image_size), jnp.uint8)}

    def loss(self, output, batch):
        target = batch["mask"].astype(jnp.int32)
        valid = target < self.classes
        logits = crop(output, *target.shape[1:])
        terms = {
            "cross_entropy": overlap.cross_entropy(logits, target, valid),
            "dice": overlap.soft_dice(logits, target, valid),
        }
        right = (logits.argmax(-1) == target) & valid
        accuracy = right.sum() / jnp.maximum(valid.sum(), 1)
        loss = terms["cross_entropy"] + self.dice_weight * terms["dice"]
        return loss, {**terms, "accuracy": accuracy}

    def predict(self, output, size):
        """Gives "mask" uint8 [b, h, w], and "confidence" [b, h, w], the class's probability."""
        p = jax.nn.softmax(crop(output, *size))
        return {"mask": p.argmax(-1).astype(jnp.uint8), "confidence": p.max(-1)}
