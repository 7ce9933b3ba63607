"""Mean and covariance of a stream of features, in float64, mergeable in any order."""

from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError


class Moments(NamedTuple):
    """Sums over the rows seen so far, kept about their own mean so that nothing cancels.

    Attributes:
        count: rows seen.
        mean: [d] float64.
        scatter: [d, d] float64, the sum of outer products of deviations.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance [d, d]."""
        if self.count < 2:
            raise UserError(f"covariance of {self.count} feature rows: expected at least 2")
        return self.scatter / (self.count - 1)


def empty(dim: int) -> Moments:
    """The moments of nothing, in `dim` dimensions."""
    return Moments(0, np.zeros(dim), np.zeros((dim, dim)))


def of(features: Float[Array | np.ndarray, "n d"]) -> Moments:
    """The moments of the rows of one array."""
    rows = np.asarray(features, np.float64)
    if not len(rows):
        return empty(rows.shape[1])
    mean = rows.mean(0)
    centred = rows - mean
    return Moments(len(rows), mean, centred.T @ centred)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both (Chan, Golub and LeVeque 1979)."""
    count = a.count + b.count
    if count == 0:
        return a
    gap = b.mean - a.mean
    mean = a.mean + gap * (b.count / count)
    scatter = a.scatter + b.scatter + np.outer(gap, gap) * (a.count * b.count / count)
    return Moments(count, mean, scatter)


def merge_processes(moments: Moments) -> Moments:
    """The moments of all processes' rows; each calls it with its own and gets the same."""
    if jax.process_count() == 1:
        return moments
    # As 32-bit words: without x64 JAX would round float64 on the way.
    packed = np.concatenate([[float(moments.count)], moments.mean, moments.scatter.ravel()])
    words = np.asarray(multihost_utils.process_allgather(packed.view(np.uint32)))
    dim, total = len(moments.mean), empty(len(moments.mean))
    for row in np.ascontiguousarray(words).view(np.float64):
        mean, scatter = row[1 : 1 + dim], row[1 + dim :].reshape(dim, dim)
        total = merge(total, Moments(int(row[0]), mean, scatter))
    return total
