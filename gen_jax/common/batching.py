"""Batches of one shape: a program compiles once, so a short batch is padded and cut again."""

from collections.abc import Iterator, Mapping

import numpy as np


def pad_rows(array: np.ndarray, rows: int) -> np.ndarray:
    """Returns the array with copies of its first row up to `rows`."""
    return np.concatenate([array, array[:1].repeat(rows - len(array), 0)])


def count_rows(batch: Mapping[str, np.ndarray]) -> int:
    """Returns how many rows the arrays of a batch have."""
    return len(next(iter(batch.values())))


def split(
    batch: Mapping[str, np.ndarray], batch_size: int
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Splits many rows into batches of one shape.

    Args:
      batch: Arrays [n, ...].
      batch_size: Rows per batch; fewer if there are not so many in all.

    Yields:
      A batch whose last rows may be padding, and how many rows are not.
    """
    total = count_rows(batch)
    size = min(batch_size, total)
    for start in range(0, total, size):
        part = {k: v[start : start + size] for k, v in batch.items()}
        count = count_rows(part)
        yield {k: pad_rows(v, size) for k, v in part.items()}, count
