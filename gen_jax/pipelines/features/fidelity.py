"""How far stored features are from computed ones: sums that merge the same in any grouping."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

# 1 - cosine is counted in bins of equal width in its logarithm, 200 a decade: a percentile is
# then known to 1% of its distance from 1. float32 itself resolves no less than 6e-8.
_LOWEST, _PER_DECADE = -8.0, 200


@dataclasses.dataclass
class Fidelity:
    """Of one feature.

    Attributes:
      vectors: how many there were.
      cosine_sum: sum of the cosines.
      counts: bin -> vectors in it.
      values: how many numbers.
      value_sum: their sum.
      value_sum_sq: sum of their squares.
    """

    vectors: int = 0
    cosine_sum: float = 0.0
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    values: int = 0
    value_sum: float = 0.0
    value_sum_sq: float = 0.0

    def add(self, cosine: np.ndarray, sums: np.ndarray, size: int) -> None:
        """Counts one image in.

        Args:
          cosine: of each of its vectors.
          sums: of its values and of their squares, [2].
          size: number of values.
        """
        cosine = cosine.astype(np.float64).ravel()
        self.vectors += cosine.size
        self.cosine_sum += float(cosine.sum())
        away = np.maximum(1.0 - cosine, 10.0**_LOWEST)
        bins = np.ceil((np.log10(away) - _LOWEST) * _PER_DECADE).astype(np.int64)
        for place, count in zip(*np.unique(bins, return_counts=True), strict=True):
            key = str(int(place))
            self.counts[key] = self.counts.get(key, 0) + int(count)
        self.values += size
        self.value_sum += float(sums[0])
        self.value_sum_sq += float(sums[1])

    def to_json(self) -> dict[str, Any]:
        """Plain values; `Fidelity(**values)` is the way back."""
        return dataclasses.asdict(self)

    def cosine_mean(self) -> float:
        """Mean over all vectors; 1 where there are none."""
        return self.cosine_sum / self.vectors if self.vectors else 1.0

    def cosine_percentile(self, share: float) -> float:
        """The cosine that this share of the vectors stays below, rounded down."""
        left = share * self.vectors
        for place in sorted((int(k) for k in self.counts), reverse=True):
            left -= self.counts[str(place)]
            if left <= 0:
                return 1.0 - 10.0 ** (_LOWEST + place / _PER_DECADE)
        return 1.0

    def mean_and_std(self) -> tuple[float, float]:
        """Of the computed values."""
        count = max(self.values, 1)
        mean = self.value_sum / count
        return mean, float(np.sqrt(max(0.0, self.value_sum_sq / count - mean**2)))


def merge(parts: Iterable[Fidelity]) -> Fidelity:
    """All together."""
    whole = Fidelity()
    for part in parts:
        whole.vectors += part.vectors
        whole.cosine_sum += part.cosine_sum
        for key, count in part.counts.items():
            whole.counts[key] = whole.counts.get(key, 0) + count
        whole.values += part.values
        whole.value_sum += part.value_sum
        whole.value_sum_sq += part.value_sum_sq
    return whole
