"""Label maps of a segmentation head on held-out images."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.common.errors import UserError
from gen_jax.data.load.mask_steps import IGNORED
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out
from gen_jax.metrics import segmentation

_COLORS = np.float32(
    [(0, 0, 0), (255, 60, 40), (40, 160, 255), (70, 220, 90), (255, 210, 40), (200, 90, 255)]
)
_TOLERANCE = 0.0075  # of the image's diagonal, as in the BSDS benchmark


@dataclasses.dataclass(frozen=True)
class Segmentation(Evaluator):
    """mIoU and boundary F-measure of predicted label maps.

    Attributes:
      split: Split that is read.
      count: Number of images at most.
      batch_size: Number of images at once.
      shown: Number of rows of the picture.
    """

    split: str = "val"
    count: int = 500
    batch_size: int = 50
    shown: int = 12

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count, is_optional=True),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `miou`, the mean over classes of the IoU over all pixels together; `iou_CLASS` of
        each; `miou_constant`, mIoU of the most frequent class everywhere; `boundary_f`, mean over
        images. Picture `masks`: image, prediction, truth; ignored pixels are gray.
        """
        batch, warnings = held_out(data, self.split, self.count)
        out = predict.batched("read", {"image": batch["image"]}, self.batch_size)
        target, predicted = batch["mask"], out["mask"]
        classes = predict.task.head.classes
        if unknown := sorted(set(np.unique(target).tolist()) - {*range(classes), IGNORED}):
            raise UserError(
                f"{data.folder}: masks have the class {unknown[0]}, and config.task.head.classes="
                f"{classes}; set it to the number of label_values of the transform"
            )
        counts = segmentation.confusion(predicted, target, classes)
        constant = np.full_like(target, counts.sum(1).argmax())
        metrics = {
            "miou": segmentation.mean_iou(counts),
            "miou_constant": segmentation.mean_iou(
                segmentation.confusion(constant, target, classes)
            ),
            "boundary_f": float(np.mean([_boundary_f(p, t) for p, t in zip(predicted, target)])),
        }
        for index, value in enumerate(segmentation.iou(counts)):
            if np.isfinite(value):
                metrics[f"iou_{index}"] = float(value)
        rows = np.stack(
            [
                batch["image"],
                overlaid(batch["image"], predicted),
                overlaid(batch["image"], target),
            ],
            1,
        )[: self.shown]
        grid = pictures.grid(rows.reshape(-1, *rows.shape[2:]), columns=12)
        return Result(metrics, {"masks": grid}, warnings=warnings)


def _boundary_f(predicted, target):
    tolerance = max(1.0, _TOLERANCE * float(np.hypot(*target.shape)))
    # No boundary of its own lies around what is ignored.
    predicted = np.where(target == IGNORED, IGNORED, predicted)
    return segmentation.boundary_f(
        segmentation.boundaries(predicted), segmentation.boundaries(target), tolerance
    )


def overlaid(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns images uint8 [n, h, w, 3] with their label maps in color; class 0 is dimmed."""
    colors = _COLORS[masks % len(_COLORS)]
    colors = np.where((masks == IGNORED)[..., None], np.float32(128.0), colors)
    return np.rint(0.45 * images.astype(np.float32) + 0.55 * colors).astype(np.uint8)
