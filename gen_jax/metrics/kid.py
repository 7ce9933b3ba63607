"""Kernel distance: squared MMD under a cubic kernel, unbiased at any count (arXiv 1801.01401)."""

import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.metrics.interval import Interval


def _kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def mmd2(
    x: Float[Array | np.ndarray, "n d"],
    y: Float[Array | np.ndarray, "m d"],
) -> float:
    """The unbiased squared MMD under k(a, b) = (a.b / d + 1)^3; negative by chance near 0.

    It holds n x n, n x m and m x m kernels: for some thousands of rows.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise UserError(f"kernel distance of {n} and {m} feature rows: expected at least 2 of each")
    k_xx, k_yy = _kernel(x, x), _kernel(y, y)
    within_x = (k_xx.sum() - np.trace(k_xx)) / (n * (n - 1))
    within_y = (k_yy.sum() - np.trace(k_yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * _kernel(x, y).mean())


def kernel_distance(
    x: Float[Array | np.ndarray, "n d"],
    y: Float[Array | np.ndarray, "m d"],
    num_subsets: int = 100,
    subset_size: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of `mmd2` over random subsets, and an interval for all rows by subsampling.

    Of Inception features this is KID. The spread over subsets of s rows is that of
    s rows; scaled by sqrt(s / n), and by 1 / sqrt(1 - s / n) because subsets
    overlap, it becomes that of all n (Politis and Romano 1994). Where the two
    distributions are equal the interval is wider than it need be.

    Args:
        x: features.
        y: features to compare with.
        num_subsets: how many.
        subset_size: rows of each, at most half of the smaller array.
        level: the share of intervals meant to hold the truth.
        seed: of the subsets.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n = min(len(x), len(y))
    size = min(subset_size, n // 2)
    if size < 2:
        raise UserError(f"kernel distance of {n} feature rows: expected at least 4 of each")
    random = np.random.RandomState(seed)
    draws = np.array(
        [
            mmd2(
                x[random.choice(len(x), size, replace=False)],
                y[random.choice(len(y), size, replace=False)],
            )
            for _ in range(num_subsets)
        ]
    )
    value = float(draws.mean())
    scale = np.sqrt(size / n / (1 - size / n))
    low, high = np.quantile(draws - value, [(1 - level) / 2, (1 + level) / 2]) * scale
    return Interval(value, value + float(low), value + float(high))
