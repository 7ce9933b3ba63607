"""A number with its confidence interval."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval, in the estimate's units."""

    value: float
    low: float
    high: float

    def named(self, name: str) -> dict[str, float]:
        """`{name, name_low, name_high}`, as a table of metrics has them."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def bootstrap(
    statistic: Callable[..., float],
    *samples: np.ndarray,
    num_resamples: int = 100,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The statistic of `samples` and a bootstrap interval, every sample resampled by rows.

    Resampling repeats rows, which pushes distances between samples up: the
    resamples' mean is subtracted, so that the interval shows their spread
    about the estimate and not that bias.

    Args:
        statistic: of as many arrays as there are samples.
        *samples: arrays [n_i, ...], independent of each other.
        num_resamples: how many.
        level: the share of intervals meant to hold the truth.
        seed: of the resampling.
    """
    random = np.random.RandomState(seed)
    value = float(statistic(*samples))
    draws = np.array(
        [
            statistic(*(s[random.randint(0, len(s), len(s))] for s in samples))
            for _ in range(num_resamples)
        ]
    )
    low, high = np.quantile(draws - draws.mean(), [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, value + float(low), value + float(high))


def of_mean(each: np.ndarray) -> Interval:
    """The mean of numbers [n] and its 95% bootstrap interval."""
    return bootstrap(np.mean, np.asarray(each, np.float64), num_resamples=1000)
