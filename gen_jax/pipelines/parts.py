"""Running a predict function over many rows, some at a time."""

from collections.abc import Callable, Mapping

import numpy as np


def in_parts(
    run: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    batch: Mapping[str, np.ndarray],
    batch_size: int,
) -> np.ndarray:
    """`run` on parts of at most `batch_size` rows, joined again.

    One shape compiles once: a short last part is filled up with its first row.
    """
    count = len(next(iter(batch.values())))
    size, out = min(batch_size, count), []
    for start in range(0, count, size):
        part = {k: v[start : start + size] for k, v in batch.items()}
        missing = size - len(next(iter(part.values())))
        part = {k: np.concatenate([v, v[:1].repeat(missing, 0)]) for k, v in part.items()}
        out.append(np.asarray(run(part))[: size - missing])
    return np.concatenate(out)
