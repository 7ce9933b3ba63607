"""Frechet distance between Gaussians fitted to features (arXiv 1706.08500).

It is named after its features: FID belongs to Inception's, FD to any other's. It
falls with the number of images: compare only numbers from equal counts.
"""

import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.metrics import moments
from gen_jax.metrics.interval import Interval, bootstrap


def frechet_distance(a: moments.Moments, b: moments.Moments) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), at least 0.

    The trace of the root is that of (A^T C_b A)^(1/2) with C_a = A A^T, whose
    symmetric eigenvalues stay real where a covariance is singular, as it is
    with fewer images than dimensions.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    cross = np.linalg.eigvalsh(root.T @ b.covariance @ root)
    trace = np.sqrt(np.maximum(cross, 0)).sum()
    gap = a.mean - b.mean
    distance = gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace
    return float(max(distance, 0.0))


def frechet(
    x: Float[Array | np.ndarray, "n d"],
    y: Float[Array | np.ndarray, "m d"],
) -> float:
    """The Frechet distance of two arrays of features, in squared units of the features."""
    if min(len(x), len(y)) >= x.shape[1]:
        return frechet_distance(moments.of(x), moments.of(y))
    a, b = _scaled(x), _scaled(y)
    gap = np.asarray(x, np.float64).mean(0) - np.asarray(y, np.float64).mean(0)
    # With C_a = A^T A and C_b = B^T B the trace of the root is the nuclear norm of A B^T:
    # of n x m, and not d x d.
    trace = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(max(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * trace, 0.0))


def _scaled(x) -> np.ndarray:
    """The rows A with A^T A = the unbiased covariance."""
    if len(x) < 2:
        raise UserError(f"covariance of {len(x)} feature rows: expected at least 2")
    x = np.asarray(x, np.float64)
    return (x - x.mean(0)) / np.sqrt(len(x) - 1)


def frechet_interval(
    x: Float[Array | np.ndarray, "n d"],
    y: Float[Array | np.ndarray, "m d"],
    num_resamples: int = 100,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The same with a bootstrap interval; see `interval.bootstrap`."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return bootstrap(frechet, x, y, num_resamples=num_resamples, level=level, seed=seed)
