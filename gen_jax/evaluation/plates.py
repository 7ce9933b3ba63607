"""Texts of a plate reader on held-out plates."""

import dataclasses
from collections import Counter

import numpy as np

from gen_jax.common import pictures
from gen_jax.data.text.plate_characters import decode
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out
from gen_jax.metrics import calibration, reading

_LEAST = 10  # plates that a range of heights must have


@dataclasses.dataclass(frozen=True)
class Plates(Evaluator):
    """Accuracy of texts, by height, and calibration of the reader's confidence.

    Attributes:
      split: Split that is read.
      count: Number of plates at most.
      batch_size: Number of plates at once.
      heights: Limits in pixels of the ranges of heights that are measured one by one.
      shown: Number of plates in the picture, half of them misread ones.
    """

    split: str = "val"
    count: int = 1000
    batch_size: int = 100
    heights: tuple[int, ...] = (0, 16, 20, 24, 28, 1000)
    shown: int = 40

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count, is_optional=True),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `plate_exact`, `plate_char` and its control `plate_char_constant` (the most
        frequent character at each place), `plate_exact_LOW_HIGH` by height, `ece`, `coverage_at_90`
        and `coverage_at_99`. Picture `plates`: each plate with what was read.
        """
        batch, warnings = held_out(data, self.split, self.count)
        out = predict.batched("read", {"image": batch["image"]}, self.batch_size)
        read, truth = ([decode(row) for row in rows] for rows in (out["text"], batch["text"]))
        is_right = np.array([a == b for a, b in zip(read, truth)])
        confidence = out["confidence"].astype(np.float64)
        metrics = {
            "plate_exact": reading.exact(read, truth),
            "plate_char": reading.character_accuracy(read, truth),
            "plate_char_constant": reading.character_accuracy(
                [_constant(truth)] * len(truth), truth
            ),
            "ece": calibration.calibration_error(confidence, is_right),
        }
        for percent in (90, 99):
            metrics[f"coverage_at_{percent}"] = calibration.coverage_at_precision(
                confidence, is_right, percent / 100
            )
        for low, high in zip(self.heights, self.heights[1:]):
            inside = (batch["height"] >= low) & (batch["height"] < high)
            if inside.sum() >= _LEAST:
                metrics[f"plate_exact_{low}_{high}"] = float(is_right[inside].mean())
        shown = self._picture(batch["image"], read, truth, is_right)
        return Result(metrics, {"plates": shown}, warnings=warnings)

    def _picture(self, images, read, truth, is_right):
        wrong = np.flatnonzero(~is_right)[: self.shown // 2]
        right = np.flatnonzero(is_right)[: self.shown - len(wrong)]
        chosen = np.r_[right, wrong].astype(np.int64)
        words = [f"{read[i]} ok" if is_right[i] else f"{read[i]} is {truth[i]}" for i in chosen]
        return pictures.grid(images[chosen], words, columns=8)


def _constant(truth: list[str]) -> str:
    """Returns the text of the most frequent length with the most frequent characters."""
    length = Counter(map(len, truth)).most_common(1)[0][0]
    rows = [text for text in truth if len(text) == length]
    return "".join(Counter(column).most_common(1)[0][0] for column in zip(*rows))
