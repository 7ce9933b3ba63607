"""Metrics of face landmarks: normalized mean error, failure rate, and area under the curve."""

import numpy as np
from jaxtyping import Float

FAILURE = 0.08
"""Normalized error above which a face counts as a failure."""


def normalized_errors(
    predicted: Float[np.ndarray, "b n 2"],
    target: Float[np.ndarray, "b n 2"],
    eyes: tuple[int, int],
) -> Float[np.ndarray, " b"]:
    """Returns the mean distance of each face's points, over the distance between its eyes (NME).

    Args:
      predicted: Points in any unit that is the same along x and y.
      target: True points in the same unit.
      eyes: Indices of the two points whose true distance is the unit of the result: the centers of
        the eyes (inter-pupil) or their outer corners (inter-ocular, 36 and 45 of 68 points).
    """
    apart = np.linalg.norm(target[:, eyes[0]] - target[:, eyes[1]], axis=-1)
    errors = np.linalg.norm(predicted - target, axis=-1).mean(-1)
    return errors / np.maximum(apart, 1e-9)


def failure_rate(errors: Float[np.ndarray, " b"], limit: float = FAILURE) -> float:
    """Returns the share of faces whose normalized error is above a limit."""
    return float((errors > limit).mean())


def area_under_curve(errors: Float[np.ndarray, " b"], limit: float = FAILURE) -> float:
    """Returns the area under the cumulative distribution of errors up to a limit, over the limit.

    It is the mean of 1 - error / limit over faces, failures counting 0: the integral of the step
    function itself, without sampling.
    """
    return float(np.maximum(0.0, 1.0 - errors / limit).mean())
