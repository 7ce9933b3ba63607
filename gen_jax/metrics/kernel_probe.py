"""A probe that is not linear: which class do these features say, by kernel ridge regression.

Gaussian kernel, classes of equal weight, the ridge that is best with each row left out (Rasmussen
and Williams 2006, section 5.4.2). For some thousands of rows.
"""

import dataclasses

import numpy as np
from jaxtyping import Array, Float, Integer

from gen_jax.common.errors import UserError

_RIDGES = 10.0 ** np.arange(-3.0, 1.5, 0.5)
_ROWS = 512  # that the median distance is taken over


@dataclasses.dataclass(frozen=True, eq=False)
class KernelProbe:
    """A fitted probe; call it on features [n, d].

    Attributes:
      classes: [k] the labels it knows.
      rows: [m, d] what it was fitted to.
      width: squared distance at which the kernel falls to 1 / e.
      weights: [m, k].
      left_out_accuracy: share of the rows fitted to that it gets right when each is left out, the
        mean over classes.
    """

    classes: np.ndarray
    rows: np.ndarray
    width: float
    weights: np.ndarray
    left_out_accuracy: float

    def __call__(self, features: Float[Array | np.ndarray, "n d"]) -> Integer[np.ndarray, " n"]:
        """The class of each row."""
        x = np.asarray(features, np.float64)
        scores = np.exp(-_squared(x, self.rows) / self.width) @ self.weights
        return self.classes[scores.argmax(1)]


def fit_kernel_probe(
    features: Float[Array | np.ndarray, "n d"], labels: Integer[Array | np.ndarray, " n"]
) -> KernelProbe:
    """Fits one.

    Args:
      features: at least two rows.
      labels: whole numbers, at least two different ones.

    Raises:
      UserError: there is but one class.
    """
    x, labels = np.asarray(features, np.float64), np.asarray(labels)
    classes, index = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError("labels: expected at least two different classes to fit a probe")
    some = x[:: max(1, len(x) // _ROWS)]
    width = max(float(np.median(_squared(some, some))), 1e-12)
    kernel = np.exp(-_squared(x, x) / width)
    count = np.bincount(index)
    weight = (len(x) / len(count) / count)[index]
    target = np.eye(len(classes))[index] - 1.0 / len(classes)
    best = None
    for ridge in _RIDGES:
        inverse = np.linalg.inv(kernel + np.diag(ridge / weight))
        weights = inverse @ target
        left_out = target - weights / np.diag(inverse)[:, None]
        right = left_out.argmax(1) == index
        error = np.average(np.square(left_out - target).sum(1), weights=weight)
        if best is None or error < best[0]:
            best = (error, weights, float(np.average(right, weights=weight)))
    return KernelProbe(classes, x, width, best[1], best[2])


def _squared(x, y):
    return np.maximum(np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None] - 2.0 * x @ y.T, 0.0)
