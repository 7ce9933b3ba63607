"""Fidelity and diversity apart: precision, recall, density and coverage of features.

Each set of features is described by balls around its points that reach to the
k-th neighbour. Precision and recall: arXiv 1904.06991. Density and coverage:
arXiv 2002.09797.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError

_ROWS_AT_ONCE = 1024


class PRDC(NamedTuple):
    """The four numbers; all in [0, 1] but density, which has mean 1 for equal distributions."""

    precision: float
    recall: float
    density: float
    coverage: float


def squared_distances(x, y):
    """Between all rows of two sets, [n, m]."""
    square = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.maximum(square, 0)


def _squared_radii(x, nearest_k):
    """Squared distance of each row to its k-th neighbour, itself not counted."""
    radii = np.empty(len(x))
    for start in range(0, len(x), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(x)))
        square = squared_distances(x[rows], x)
        square[np.arange(len(rows)), rows] = 0.0
        radii[rows] = np.partition(square, nearest_k, axis=1)[:, nearest_k]
    return radii


def prdc(
    real: Float[Array | np.ndarray, "n d"],
    fake: Float[Array | np.ndarray, "m d"],
    nearest_k: int = 5,
) -> PRDC:
    """Compares generated features with real ones.

    Args:
        real: features of real images.
        fake: features of generated images.
        nearest_k: which neighbour the balls reach to: 5 in arXiv 2002.09797,
            3 in 1904.06991.

    Returns:
        precision: share of fakes inside some real ball. recall: share of reals
        inside some fake ball. density: real balls around a fake, over k.
        coverage: share of real balls that hold a fake.
    """
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    if not 1 <= nearest_k < min(len(real), len(fake)):
        raise UserError(
            f"nearest_k={nearest_k}: expected 1 to {min(len(real), len(fake)) - 1}, fewer than rows"
        )
    # Distances do not change with an offset, and float64 keeps more of them near zero.
    centre = real.mean(0)
    real, fake = real - centre, fake - centre
    real_radii, fake_radii = _squared_radii(real, nearest_k), _squared_radii(fake, nearest_k)
    inside = density = 0
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for start in range(0, len(fake), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        square = squared_distances(fake[rows], real)
        in_real_ball = square <= real_radii[None]
        inside += in_real_ball.any(1).sum()
        density += in_real_ball.sum()
        covered |= in_real_ball.any(0)
        recalled |= (square <= fake_radii[rows, None]).any(0)
    return PRDC(
        precision=float(inside / len(fake)),
        recall=float(recalled.mean()),
        density=float(density / (nearest_k * len(fake))),
        coverage=float(covered.mean()),
    )
