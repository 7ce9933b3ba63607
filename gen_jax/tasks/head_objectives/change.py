"""Change detection: which pixels show something else in a second image."""

import dataclasses
from typing import ClassVar

from gen_jax.models.heads.change import ChangeNet
from gen_jax.tasks.head_objectives.segmentation import Segmentation


@dataclasses.dataclass(frozen=True)
class Change(Segmentation):
    """Cross-entropy and soft Dice loss of a change map of two images of one size.

    "mask" uint8 [h, w] is 0 where nothing changed; see `Segmentation`.
    """

    inputs: ClassVar[tuple[str, ...]] = ("before", "after")

    def network(self):
        return ChangeNet(self.classes, self.width)
