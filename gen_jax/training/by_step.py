"""Metrics of many parts, such as one a word, from evaluation to evaluation."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np


class ByStep(NamedTuple):
    """A group's numbers.

    Attributes:
      parts: names, in order.
      steps: of the evaluations.
      values: `[parts, steps]`, NaN where one was not measured.
    """

    parts: tuple[str, ...]
    steps: tuple[int, ...]
    values: np.ndarray


def by_step(lines: Iterable[Mapping[str, Any]], prefix: str) -> dict[str, ByStep]:
    """Groups of metrics "STAGE/GROUP/PART" that were measured at two steps or more.

    Args:
      lines: of metrics.jsonl; a step that was taken twice, after a resumption, counts as last seen.
      prefix: the stage's.

    Returns:
      GROUP -> its numbers.
    """
    found: dict[str, dict[str, dict[int, float]]] = {}
    for line in lines:
        for name, value in line.items():
            parts = name.split("/")
            if len(parts) == 3 and parts[0] == prefix:
                found.setdefault(parts[1], {}).setdefault(parts[2], {})[line["step"]] = value
    out = {}
    for group, rows in found.items():
        steps = sorted({step for row in rows.values() for step in row})
        if len(steps) > 1:
            names = tuple(sorted(rows))
            values = [[rows[n].get(step, np.nan) for step in steps] for n in names]
            out[group] = ByStep(names, tuple(steps), np.array(values))
    return out
