"""Several degradations one after the other."""

import dataclasses
from typing import Any

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data.degradations.base import Image, combined, from_bytes, to_bytes


@dataclasses.dataclass(frozen=True)
class Chain:
    """Steps in turn; a chain of chains is a degradation of second order (arXiv:2107.10833).

    Attributes:
      steps: degradations.
      chance: with which each step happens.
      shuffle: whether their order is random (BSRGAN, arXiv:2103.14006).
      rounded: whether the end is clipped and rounded to 8 bits, as a file would be.
    """

    steps: tuple[Any, ...]
    chance: tuple[float | int, ...] = ()
    shuffle: bool = False
    rounded: bool = True

    def __post_init__(self):
        if self.chance and len(self.chance) != len(self.steps):
            raise UserError(
                f"degradation: chance has {len(self.chance)} numbers for {len(self.steps)} steps"
            )

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        chance = self.chance or (1.0,) * len(self.steps)
        order = rng.permutation(len(self.steps)) if self.shuffle else range(len(self.steps))
        drawn: dict[str, float] = {}
        for index in order:
            if rng.random() < chance[index]:
                image, values = self.steps[index](image, rng)
                drawn = combined(drawn, values)
        return (from_bytes(to_bytes(image)) if self.rounded else image), drawn


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One step, drawn by weight.

    Attributes:
      steps: degradations.
      weights: of each, of any sum; none, all alike.
    """

    steps: tuple[Any, ...]
    weights: tuple[float | int, ...] = ()

    def __post_init__(self):
        if self.weights and len(self.weights) != len(self.steps):
            raise UserError(
                f"degradation: weights has {len(self.weights)} numbers for {len(self.steps)} steps"
            )

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        weights = np.asarray(self.weights or (1.0,) * len(self.steps))
        return self.steps[rng.choice(len(self.steps), p=weights / weights.sum())](image, rng)
