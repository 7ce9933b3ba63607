"""How far confidences can be trusted: calibration error, and coverage at a precision."""

import numpy as np
from jaxtyping import Bool, Float


def calibration_error(
    confidence: Float[np.ndarray, " n"], is_right: Bool[np.ndarray, " n"], bins: int = 10
) -> float:
    """Returns the expected calibration error (ECE, arXiv:1706.04599).

    Args:
      confidence: Probabilities in [0, 1].
      is_right: Whether each prediction was right.
      bins: Number of bins of equal width.

    Returns:
      Mean gap between confidence and share right of each bin, weighted by its size.
    """
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    total = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            total += inside.sum() * abs(confidence[inside].mean() - is_right[inside].mean())
    return float(total / max(1, len(confidence)))


def coverage_at_precision(
    confidence: Float[np.ndarray, " n"], is_right: Bool[np.ndarray, " n"], precision: float
) -> float:
    """Returns the largest share of predictions that can be kept, the most confident ones, so that
    at least `precision` of them are right; 0 if there is none.
    """
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(is_right[order]) / np.arange(1, len(order) + 1)
    # Equal confidences are kept or refused together.
    ends = np.flatnonzero(np.diff(confidence[order], append=-1.0) != 0)
    good = ends[right[ends] >= precision]
    return float((good.max() + 1) / len(order)) if len(good) else 0.0
