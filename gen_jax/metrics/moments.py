"""Mean and covariance of features, in float64."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError


class Moments(NamedTuple):
    """Sums over rows of features, about their own mean so that nothing cancels.

    Attributes:
        count: Number of rows.
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


def of(features: Float[Array | np.ndarray, "n d"]) -> Moments:
    """Returns the moments of the rows of an array."""
    rows = np.asarray(features, np.float64)
    mean = rows.mean(0) if len(rows) else np.zeros(rows.shape[1])
    centred = rows - mean
    return Moments(len(rows), mean, centred.T @ centred)
