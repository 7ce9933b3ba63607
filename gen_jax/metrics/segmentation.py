"""Metrics of label maps: IoU and F1 by class from a confusion matrix, and boundary F-measure."""

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage


def confusion(
    predicted: Integer[np.ndarray, "*shape"], target: Integer[np.ndarray, "*shape"], classes: int
) -> Int[np.ndarray, "k k"]:
    """Counts pixels by true class (rows) and predicted class (columns).

    Args:
      predicted: Class indices.
      target: Class indices; pixels with others, such as 255, are left out.
      classes: Number of classes.
    """
    valid = (target >= 0) & (target < classes)
    pairs = classes * target[valid].astype(np.int64) + predicted[valid]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def iou(counts: Int[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """Returns intersection over union of each class; NaN if neither side has it."""
    right = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)


def f1(counts: Int[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """Returns the F1 score of each class; NaN if neither side has it."""
    right = np.diag(counts).astype(np.float64)
    total = (counts.sum(0) + counts.sum(1)).astype(np.float64)
    return np.divide(2 * right, total, out=np.full(len(right), np.nan), where=total > 0)


def mean_iou(counts: Int[np.ndarray, "k k"]) -> float:
    """Returns the mean of `iou` over the classes that occur (mIoU)."""
    return float(np.nanmean(iou(counts)))


def boundaries(mask: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Returns the pixels whose right, lower or lower right neighbor has another class.

    This is the boundary map of the BSDS benchmark's `seg2bmap` at the image's own size.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    return (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])


def boundary_f(
    predicted: Bool[np.ndarray, "h w"], target: Bool[np.ndarray, "h w"], tolerance: float | int
) -> float:
    """Returns the F-measure of boundary pixels within a distance of each other.

    Precision is the share of predicted boundary pixels with a true one within `tolerance`, recall
    the share of true ones with a predicted one; there is no assignment one to one (the measure F of
    the DAVIS benchmark, Perazzi et al., CVPR 2016). 1 if neither side has a boundary, 0 if one has.

    Args:
      predicted: Boundary pixels.
      target: True boundary pixels.
      tolerance: Distance in pixels.
    """
    if not predicted.any() or not target.any():
        return float(predicted.any() == target.any())
    precision = (ndimage.distance_transform_edt(~target)[predicted] <= tolerance).mean()
    recall = (ndimage.distance_transform_edt(~predicted)[target] <= tolerance).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-12))
