"""The generative part of a restoration: its settings, one noise field per image, broken outputs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from gen_jax.common import numbers
from gen_jax.common.errors import UserError

# Side of the squares of pixels that have noise of their own; tiles begin at multiples of it.
BLOCK = 32
# Means of 8x8 pixels that are further from the restorer's image than this are no restoration of it.
_CELL, _FAR = 8, 0.35
_FLAT, _STRUCTURED = 1e-3, 0.02  # standard deviations, of images in [0, 1]


@dataclasses.dataclass(frozen=True)
class Generative:
    """How much of what a generative stage draws is added, and what it draws.

    Attributes:
      amount: Share of the generated detail: 0 returns the restorer's image, 1 adds all of it.
      seed: Seed of the noise.
    """

    amount: float | int = 1.0
    seed: int = 0

    def __post_init__(self):
        numbers.parse(self.amount, "generative", float, 0, 1)
        numbers.check_seed(self.seed, "seed")


@dataclasses.dataclass(frozen=True)
class Noise:
    """The noise of an image of any size, N(0, 1): a tile takes the same as the whole would.

    Attributes:
      seed: Seed of the image.
      factor: Pixels per side of a latent position.
      channels: Channels of a latent.
    """

    seed: int
    factor: int
    channels: int

    def __call__(self, top: int, left: int, size: tuple[int, int]) -> Float[np.ndarray, "1 h w z"]:
        """Returns the noise of a tile.

        Args:
          top: First row in pixels, a multiple of `BLOCK`.
          left: First column in pixels, a multiple of `BLOCK`.
          size: Height and width of the tile in pixels, multiples of `BLOCK`.
        """
        side = BLOCK // self.factor
        rows = [
            np.concatenate(
                [
                    np.random.default_rng((self.seed, row, column)).standard_normal(
                        (side, side, self.channels), np.float32
                    )
                    for column in range(left // BLOCK, (left + size[1]) // BLOCK)
                ],
                axis=1,
            )
            for row in range(top // BLOCK, (top + size[0]) // BLOCK)
        ]
        return np.concatenate(rows)[None]


def is_broken(image: Float[np.ndarray, "h w c"], first: Float[np.ndarray, "h w c"]) -> bool:
    """Returns whether an image is not finite, constant, or far from the restorer's image.

    Args:
      image: Generated image, in about [0, 1].
      first: The restorer's image, in about [0, 1].
    """
    if not np.isfinite(image).all():
        return True
    if image.std() < _FLAT and first.std() > _STRUCTURED:
        return True
    height, width = (side // _CELL * _CELL for side in image.shape[:2])
    cells = (image - first)[:height, :width].reshape(
        height // _CELL, _CELL, width // _CELL, _CELL, -1
    )
    return bool(np.abs(cells.mean((1, 3))).max(initial=0.0) > _FAR)


def with_settings(model: Any, settings: Mapping[str, Any]) -> Any:
    """Returns a model that draws with other settings.

    Args:
      model: A `runs.reader.TrainedModel`.
      settings: Name in `Task.sampling_settings` -> value.

    Raises:
      UserError: The model generates nothing.
    """
    known = model.task.sampling_settings()
    for name in settings:
        if name not in known:
            raise UserError(
                f"{name}: {model.path} generates nothing; leave it out, or name a run of "
                "configs/restore_ldm.py"
            )
    return dataclasses.replace(model, task=model.task.with_settings(**settings))
