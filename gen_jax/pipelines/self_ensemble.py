"""Geometric self-ensemble (EDSR, arXiv:1707.02921): the mean over symmetries of the square."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

COUNTS = (1, 2, 4, 8)
"""Numbers of symmetries: none, mirrored, also upside down, and also turned by 90 degrees."""

# Quarter turns and whether the result is mirrored. The first four keep the shape of an image.
_SYMMETRIES = (
    (0, False),
    (0, True),
    (2, False),
    (2, True),
    (1, False),
    (1, True),
    (3, False),
    (3, True),
)
Batch = Float[np.ndarray, "1 h w c"]
Result = Float[np.ndarray, "1 h2 w2 c"]


def mean_over_symmetries(restore: Callable[[Batch], Result], x: Batch, count: int) -> Result:
    """Restores an image in several orientations and averages the results.

    Args:
      restore: Returns a restored image, which may be larger.
      x: The image.
      count: One of `COUNTS`.
    """
    if count == 1:
        return restore(x)
    results = []
    for turns, is_mirrored in _SYMMETRIES[:count]:
        turned = np.rot90(x, turns, (1, 2))
        turned = turned[:, :, ::-1] if is_mirrored else turned
        y = restore(np.ascontiguousarray(turned))
        y = y[:, :, ::-1] if is_mirrored else y
        results.append(np.rot90(y, -turns, (1, 2)))
    return np.mean(results, 0)
