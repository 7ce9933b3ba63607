"""Metrics of text that was read: exact matches and accuracy by character."""

from collections.abc import Sequence

import numpy as np


def edit_distance(a: str, b: str) -> int:
    """Returns the Levenshtein distance: least number of inserted, deleted or replaced letters."""
    row = np.arange(len(b) + 1)
    for i, letter in enumerate(a, 1):
        before, row[0] = row.copy(), i
        for j, other in enumerate(b, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
    return int(row[-1])


def exact(read: Sequence[str], truth: Sequence[str]) -> float:
    """Returns the share of texts that are read without a mistake."""
    return float(np.mean([a == b for a, b in zip(read, truth, strict=True)]))


def character_accuracy(read: Sequence[str], truth: Sequence[str]) -> float:
    """Returns 1 - CER: edit distances over the number of true characters, at least 0."""
    errors = sum(edit_distance(a, b) for a, b in zip(read, truth, strict=True))
    return max(0.0, 1.0 - errors / max(1, sum(map(len, truth))))
