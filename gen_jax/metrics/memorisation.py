"""Whether samples are copies of training images, judged by what is held out.

Held-out images lie as far from the training images as new ones do; samples of a model that repeats
what it saw lie nearer (the data-copying test of arXiv 2004.05675, in its simplest form).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import mannwhitneyu

from gen_jax.common.errors import UserError
from gen_jax.metrics.prdc import squared_distances

_ROWS_AT_ONCE = 1024
_RARE = 0.01  # of held-out images are as near to a training image as what counts as a copy


class Memorisation(NamedTuple):
    """What `memorisation` finds.

    Attributes:
      ratio: median distance of samples to their nearest training image, over that of held-out
        images: about 1 or more for a model that does not copy.
      chance: that distances as small come by chance from a model whose samples are no nearer than
        held-out images are (one-sided Mann-Whitney test): near 0 where samples are nearer.
      copies: share of samples that are nearer than all but a hundredth of the held-out images:
        about 0.01 or less for a model that does not copy.
      nearest: training row that each sample is nearest to.
      distance: to it.
    """

    ratio: float
    chance: float
    copies: float
    nearest: Int[np.ndarray, "n"]
    distance: Float[np.ndarray, "n"]


def memorisation(
    samples: Float[np.ndarray, "n d"],
    train: Float[np.ndarray, "m d"],
    held_out: Float[np.ndarray, "k d"],
) -> Memorisation:
    """Compares distances to the nearest training row.

    Raises:
      UserError: an empty set.
    """
    for name, rows in (("samples", samples), ("training", train), ("held-out", held_out)):
        if not len(rows):
            raise UserError(f"memorisation: there are no {name} images")
    nearest, distance = _nearest(samples, train)
    _, usual = _nearest(held_out, train)
    return Memorisation(
        float(np.median(distance) / max(np.median(usual), 1e-12)),
        float(mannwhitneyu(distance, usual, alternative="less").pvalue),
        float((distance < np.quantile(usual, _RARE)).mean()),
        nearest,
        distance,
    )


def _nearest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, distances, y = [], [], y.astype(np.float64)
    for start in range(0, len(x), _ROWS_AT_ONCE):
        square = squared_distances(x[start : start + _ROWS_AT_ONCE].astype(np.float64), y)
        found.append(square.argmin(1))
        distances.append(np.sqrt(square.min(1)))
    return np.concatenate(found), np.concatenate(distances)
