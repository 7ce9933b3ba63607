"""Change maps of a change detector on held-out pairs."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out
from gen_jax.evaluation.segmentation import overlaid
from gen_jax.metrics import segmentation

_ALARM = 0.005  # share of the pixels of an unchanged pair from which it counts as a false alarm


@dataclasses.dataclass(frozen=True)
class Change(Evaluator):
    """F1 and IoU of changed pixels.

    Attributes:
      split: Split that is read.
      count: Number of pairs at most.
      batch_size: Number of pairs at once.
      shown: Number of rows of the picture.
    """

    split: str = "val"
    count: int = 400
    batch_size: int = 50
    shown: int = 12

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count, is_optional=True),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `change_f1` and `change_iou` of the changed pixels of all pairs together,
        `change_f1_constant` if all pixels are called changed, and `false_alarm_rate`, the share of
        unchanged pairs in which more than 0.5% of the pixels are called changed. Picture
        `changes`: before, after, prediction, truth.
        """
        batch, warnings = held_out(data, self.split, self.count)
        given = {name: batch[name] for name in ("before", "after")}
        predicted = predict.batched("read", given, self.batch_size)["mask"] > 0
        target = batch["mask"] > 0
        counts = segmentation.confusion(predicted.astype(int), target.astype(int), 2)
        always = segmentation.confusion(np.ones_like(target, int), target.astype(int), 2)
        metrics = {
            "change_f1": float(segmentation.f1(counts)[1]),
            "change_iou": float(segmentation.iou(counts)[1]),
            "change_f1_constant": float(segmentation.f1(always)[1]),
        }
        unchanged = ~target.any((1, 2))
        if unchanged.any():
            alarms = predicted[unchanged].mean((1, 2)) > _ALARM
            metrics["false_alarm_rate"] = float(alarms.mean())
        drawn = [overlaid(batch["before"], m.astype(np.uint8)) for m in (predicted, target)]
        rows = np.stack([batch["before"], batch["after"], *drawn], 1)[: self.shown]
        grid = pictures.grid(rows.reshape(-1, *rows.shape[2:]), columns=12)
        return Result(metrics, {"changes": grid}, warnings=warnings)
