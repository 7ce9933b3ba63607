"""`metrics.json`: the metrics of a run by epoch, rebuilt from its lines in `metrics.jsonl`."""

import pathlib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from gen_jax.common import files, strict_json
from gen_jax.training.cadence import epoch_of

_NOT_METRICS = ("step", "time", "epoch")
_TOTAL = "skipped_steps"  # counts from the beginning of the run, and is in no line of evaluation


class EpochTable:
    """One entry per epoch: means of the training metrics, and the latest evaluation.

    A line counts for the epoch of its step, with the steps since the line before as its weight.
    An epoch in which no line was written has no entry.

    Args:
      path: File to write.
      steps_per_epoch: Number of training records over the batch size.
    """

    def __init__(self, path: pathlib.Path, steps_per_epoch: Fraction):
        self._path, self._steps_per_epoch = path, steps_per_epoch
        self.rebuild(())

    def rebuild(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Starts again from the lines of `metrics.jsonl`."""
        self._finished: list[str] = []  # as JSON: a long run has many and changes only the last
        self._epoch, self._entry = 0, {}
        self._sums: dict[str, float] = {}
        self._weights: dict[str, int] = {}
        self._logged = 0  # step of the newest line of training metrics
        for line in lines:
            self.add(line)

    def add(self, line: Mapping[str, Any]) -> None:
        """Adds a line of training or evaluation metrics to the entry of its epoch."""
        epoch = epoch_of(max(1, line["step"]), self._steps_per_epoch)
        if epoch != self._epoch:
            if self._entry:
                self._finished.append(self._text())
            self._epoch, self._entry, self._sums, self._weights = epoch, {}, {}, {}
        self._entry |= {"epoch": epoch, "step": line["step"]}
        numbers = {k: v for k, v in line.items() if k not in _NOT_METRICS}
        if _TOTAL not in line:
            self._entry |= numbers
            return
        # A training line holds means over the steps since the line before.
        weight = max(1, line["step"] - self._logged)
        self._logged = line["step"]
        self._entry[_TOTAL] = numbers.pop(_TOTAL)
        for name, value in numbers.items():
            self._weights[name] = self._weights.get(name, 0) + weight
            self._sums[name] = self._sums.get(name, 0.0) + weight * value
            self._entry[name] = self._sums[name] / self._weights[name]

    def write(self) -> None:
        """Replaces the file in one step."""
        texts = [*self._finished, self._text()] if self._entry else self._finished
        files.write_text(self._path, "[\n" + ",\n".join(texts) + "\n]\n")

    def _text(self) -> str:
        return strict_json.dumps(self._entry)
