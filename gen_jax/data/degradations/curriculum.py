"""Mild damage first: a limit on severity that rises with the step of training."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from gen_jax.common import ranges

Made = TypeVar("Made")


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """Draws again what is beyond the limit of the step, and takes the mildest of some tries.

    Strengths are not scaled: what a crop is said to have been through, it has been through.

    Attributes:
      steps: over which the limit rises from `start` to `end`; 0 for no limit at any time.
      start, end: root mean square difference from the clean crop, in 8-bit units.
      free: share of the crops that no limit holds, so that every batch is mixed.
      tries: draws of a crop, at most.
    """

    steps: int = 0
    start: float = 8.0
    end: float = 60.0
    free: float = 0.25
    tries: int = 6

    def __post_init__(self):
        ranges.check_range(self.steps, ranges.NOT_NEGATIVE, "curriculum_steps", int)

    def limit(self, step: int) -> float:
        """The severity allowed at a step."""
        if step >= self.steps:
            return np.inf
        return self.start + (self.end - self.start) * step / self.steps

    def pick(
        self,
        draw: Callable[[np.random.Generator], Made],
        severity: Callable[[Made], float],
        step: int,
        rng: np.random.Generator,
    ) -> Made:
        """The first draw within the limit, else the mildest.

        Args:
          draw: makes one.
          severity: of what was made.
          step: of the training.
          rng: decides all draws, and whether the limit holds.
        """
        limit = self.limit(step)
        if not np.isfinite(limit) or rng.random() < self.free:
            return draw(rng)
        best, least = None, np.inf
        for _ in range(self.tries):
            made = draw(rng)
            if (value := severity(made)) < least:
                best, least = made, value
            if least <= limit:
                break
        return best
