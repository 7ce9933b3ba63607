"""A trained head on images of any size."""

from typing import Any

import cv2
import jax
import numpy as np
from jaxtyping import UInt8

from gen_jax.common.errors import UserError
from gen_jax.runs.reader import TrainedModel

_SIDES = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


class Head:
    """Calls a trained model of the stage `heads`.

    Attributes:
      model: As `runs.reader.load` gives it.
      inputs: Names of the images that `read` takes.
    """

    def __init__(self, model: TrainedModel):
        """Checks that the model is a head.

        Raises:
          UserError: It is of another stage.
        """
        self.model, self._task = model, model.task
        if model.task.pipeline != "heads":
            raise UserError(
                f"{model.path}: is a run of another stage; name a run of configs/heads.py"
            )
        self.inputs: tuple[str, ...] = model.task.head.inputs
        self._compiled = jax.jit(self._task.predict_fns()["read"])

    def read(self, **images: UInt8[np.ndarray, "_ _ 3"]) -> dict[str, Any]:
        """Returns what the head reads, by name, see `describe` of its objective.

        An image is padded at the bottom and the right to one of a few sizes, so that few programs
        are compiled, or resized, as the head declares.

        Args:
          **images: An RGB image for each name in `inputs`, all of one size.

        Raises:
          UserError: Other names, or images of different sizes.
        """
        if set(images) != set(self.inputs):
            raise UserError(
                f"{self.model.path}: reads {' and '.join(self.inputs)}, not {', '.join(images)}"
            )
        sizes = {image.shape[:2] for image in images.values()}
        if len(sizes) > 1:
            listed = " and ".join(f"{w}x{h}" for h, w in sorted(sizes))
            raise UserError(f"images of different sizes, {listed}: expected one size; align them")
        size, head = sizes.pop(), self._task.head
        if head.is_resized:
            height, width = head.size(self._task.image_size)
            ready = {k: _resized(x, height, width) for k, x in images.items()}
        else:
            ready = {k: _padded(x) for k, x in images.items()}
        batch = {name: image[None] for name, image in ready.items()}
        out = self._compiled(self.model.variables, batch, {}, self.model.frozen)
        return head.describe({name: np.asarray(value)[0] for name, value in out.items()}, size)


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    kind = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=kind)


def _padded(image: np.ndarray) -> np.ndarray:
    pads = [(0, _side(n) - n) for n in image.shape[:2]]
    return np.pad(image, (*pads, (0, 0)), mode="edge")


def _side(n: int) -> int:
    """Returns the least of a few sides that holds n pixels."""
    return next((side for side in _SIDES if side >= n), -(-n // 512) * 512)
