"""Points of a landmark head on held-out faces."""

import dataclasses

import cv2
import numpy as np

from gen_jax.common import pictures
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out
from gen_jax.metrics import landmarks

_SCALE = 3  # of faces in the picture
_TRUE, _PREDICTED = (60, 220, 60), (255, 60, 40)


@dataclasses.dataclass(frozen=True)
class Landmarks(Evaluator):
    """Errors of points, over the distance between the eyes.

    Attributes:
      split: Split that is read.
      count: Number of faces at most.
      batch_size: Number of faces at once.
      eyes: Indices of the points whose distance is the unit of errors.
      shown: Number of faces in the picture, half of them the worst.
    """

    split: str = "val"
    count: int = 500
    batch_size: int = 50
    eyes: tuple[int, int] = (0, 1)
    shown: int = 24

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count, is_optional=True),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `nme`, `failure_rate` (above 8%), `auc` up to 8%, and `nme_constant`, the error
        of the mean face. Picture `landmarks`: predicted points red, true ones green.
        """
        batch, warnings = held_out(data, self.split, self.count)
        out = predict.batched("read", {"image": batch["image"]}, self.batch_size)
        truth, eyes = batch["points"].astype(np.float64), tuple(self.eyes)
        errors = landmarks.normalized_errors(out["points"].astype(np.float64), truth, eyes)
        mean = np.broadcast_to(truth.mean(0), truth.shape)
        metrics = {
            "nme": float(errors.mean()),
            "failure_rate": landmarks.failure_rate(errors),
            "auc": landmarks.area_under_curve(errors),
            "nme_constant": float(landmarks.normalized_errors(mean, truth, eyes).mean()),
        }
        worst = np.argsort(-errors)[: self.shown // 2]
        first = np.setdiff1d(np.arange(min(self.shown, len(errors))), worst)
        chosen = np.r_[first[: self.shown - len(worst)], worst].astype(np.int64)
        faces = [
            drawn(batch["image"][i], [(out["points"][i], _PREDICTED), (truth[i], _TRUE)])
            for i in chosen
        ]
        words = [f"{100 * errors[i]:.1f}%" for i in chosen]
        grid = pictures.grid(np.stack(faces), words, columns=8, scale=1)
        return Result(metrics, {"landmarks": grid}, warnings=warnings)


def drawn(image: np.ndarray, groups: list[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """Returns an enlarged image with points, given in fractions of its sides, in colors."""
    large = np.ascontiguousarray(image.repeat(_SCALE, 0).repeat(_SCALE, 1))
    for points, color in groups:
        for x, y in points * [[large.shape[1], large.shape[0]]]:
            cv2.circle(large, (round(float(x)), round(float(y))), 2, color, -1)
    return large
