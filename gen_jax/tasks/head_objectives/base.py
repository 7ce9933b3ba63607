"""The contract of the objectives of domain heads."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import flax.linen as nn
import jax
import numpy as np


@runtime_checkable
class HeadObjective(Protocol):
    """A head: what it reads, its network, its loss, and what it predicts.

    Objectives are frozen dataclasses of numbers. A new one is a line in `HEADS`.

    Attributes:
      inputs: Keys of the uint8 images that the trunk encodes, in the order in which `network`
        takes their pyramids.
      is_resized: Whether whole images are resized to the size of training; otherwise they are read
        at their own size.
    """

    inputs: ClassVar[tuple[str, ...]]
    is_resized: ClassVar[bool]

    def network(self) -> nn.Module:
        """Returns the head's network, from the pyramid of each input to its output."""

    def size(self, image_size: int) -> tuple[int, int]:
        """Returns height and width of an image in training, in pixels."""

    def targets(self, image_size: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Returns keys, shapes and dtypes of what the loss compares with, of one example."""

    def loss(
        self, output: Any, batch: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the loss of a batch, and metrics of it by name."""

    def predict(self, output: Any, size: tuple[int, int]) -> dict[str, jax.Array]:
        """Returns what the head reads in images of `size` (height and width), by name."""

    def describe(self, read: Mapping[str, np.ndarray], size: tuple[int, int]) -> dict[str, Any]:
        """Returns what was read in one image in its own units.

        Args:
          read: What `predict` gave, without the batch axis, of the image or its resized copy.
          size: Height and width of the image in pixels.
        """


class Maps:
    """What heads share that predict a map of the image at its own size."""

    is_resized: ClassVar[bool] = False

    def size(self, image_size: int) -> tuple[int, int]:
        return image_size, image_size

    def describe(self, read: Mapping[str, np.ndarray], size: tuple[int, int]) -> dict[str, Any]:
        return {name: value[: size[0], : size[1]] for name, value in read.items()}
