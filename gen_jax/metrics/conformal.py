"""Thresholds whose risk is bounded without assumptions on the model.

Conformal risk control (arXiv:2208.02814) bounds the expected risk of a new image that is
exchangeable with the calibration images. Risk-controlling prediction sets (arXiv:2101.02703, for
images arXiv:2202.05265) bound the risk with a probability over the calibration images, by the
betting bound of Waudby-Smith and Ramdas (arXiv:2010.09686).
"""

import numpy as np
from jaxtyping import Float

_DIGITS = 40  # halvings of [0, 1]


def largest_safe(losses: Float[np.ndarray, "n k"], alpha: float) -> int | None:
    """Returns the last of k settings at which the expected risk is at most alpha.

    Args:
      losses: Losses in [0, 1] of n images at settings of growing risk.
      alpha: Bound of the risk, between 0 and 1.

    Returns:
      Index of the setting, or None if not even the first one is safe.
    """
    count = len(losses)
    bounds = (losses.sum(0) + 1.0) / (count + 1)
    above = np.flatnonzero(bounds > alpha)
    last = len(bounds) - 1 if above.size == 0 else int(above[0]) - 1
    return last if last >= 0 else None


def least_count(alpha: float) -> int:
    """Returns the number of images below which `largest_safe` returns None for any losses."""
    return int(np.ceil(1.0 / alpha - 1e-9)) - 1


def upper_bound(losses: Float[np.ndarray, " n"], delta: float) -> float:
    """Returns an upper bound of the mean loss that holds with probability 1 - delta.

    Args:
      losses: Independent losses in [0, 1].
      delta: Probability of an error.
    """
    count = len(losses)
    ranks = 1.0 + np.arange(count)
    means = (0.5 + np.cumsum(losses)) / (1.0 + ranks)
    variances = (0.25 + np.cumsum(np.square(losses - means))) / (1.0 + ranks)
    before = np.concatenate([[0.25], variances[:-1]])
    bets = np.minimum(1.0, np.sqrt(2.0 * np.log(1.0 / delta) / (count * before)))

    def is_refuted(mean: float) -> bool:
        """Returns whether betting against this mean wins 1 / delta at any time."""
        with np.errstate(divide="ignore"):
            wealth = np.cumsum(np.log(np.maximum(1.0 - bets * (losses - mean), 0.0)))
        return bool(wealth.max() > np.log(1.0 / delta))

    low, high = 0.0, 1.0
    for _ in range(_DIGITS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if is_refuted(middle) else (middle, high)
    return high


def smallest_covering(losses: Float[np.ndarray, "n k"], alpha: float, delta: float) -> int | None:
    """Returns the first of k settings from which on the risk is at most alpha.

    Args:
      losses: Losses in [0, 1] of n images at settings of falling risk.
      alpha: Bound of the risk, between 0 and 1.
      delta: Probability that the bound does not hold.

    Returns:
      Index of the setting, or None if not even the last one is safe.
    """
    first = None
    for index in reversed(range(losses.shape[1])):
        if upper_bound(losses[:, index], delta) > alpha:
            break
        first = index
    return first
