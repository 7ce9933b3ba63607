"""Metrics to JSONL and TensorBoard, pictures to PNG; by the main process alone."""

import json
import pathlib
import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from gen_jax.common import files, pictures, strict_json
from gen_jax.parallel import distributed
from gen_jax.runs import layout
from gen_jax.training.cadence import in_epochs
from gen_jax.training.epoch_table import EpochTable


class MetricWriter:
    """Appends one JSON line a call, and the same numbers as TensorBoard events.

    Args:
      workdir: the run directory.
      tensorboard: whether to write events besides.
      steps_per_epoch: Number of training records over the batch size. With it, each line has its
        `epoch`, and `metrics.json` has one entry per epoch. None if it is unknown.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        tensorboard: bool = True,
        steps_per_epoch: Fraction | None = None,
    ):
        self._on = distributed.is_main()
        self._path = pathlib.Path(workdir) / layout.METRICS
        self._samples = pathlib.Path(workdir) / layout.SAMPLES
        self._board, self._epochs, self._steps_per_epoch = None, None, steps_per_epoch
        if self._on and steps_per_epoch is not None:
            self._epochs = EpochTable(pathlib.Path(workdir) / layout.EPOCHS, steps_per_epoch)
            self._epochs.rebuild(read_metrics(workdir))
        if self._on and tensorboard:
            import tensorboardX

            self._board = tensorboardX.SummaryWriter(str(workdir), flush_secs=30)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes numbers (anything that becomes a float)."""
        if not self._on:
            return
        numbers = {k: float(v) for k, v in values.items()}
        if self._steps_per_epoch is not None:
            numbers = {"epoch": in_epochs(step, self._steps_per_epoch), **numbers}
        line = {"step": step, "time": round(time.time(), 3), **numbers}
        with self._path.open("a", encoding="utf-8") as f:
            f.write(strict_json.dumps(line) + "\n")
        if self._epochs is not None:
            self._epochs.add(line)
            self._epochs.write()
        if self._board is not None:
            for name, number in numbers.items():
                self._board.add_scalar(name, number, step)

    def rewind(self, step: int) -> None:
        """Forgets the lines after `step`, which a resumed run is about to write again."""
        if self._on and self._path.exists():
            kept = read_metrics(self._path.parent, upto=step)
            files.write_text(self._path, "".join(strict_json.dumps(line) + "\n" for line in kept))
            if self._epochs is not None:
                self._epochs.rebuild(kept)
                self._epochs.write()

    def image(self, step: int, name: str, image: np.ndarray) -> pathlib.Path | None:
        """Writes a uint8 picture `[h, w, 3]` as `samples/step_STEP_NAME.png`."""
        if not self._on:
            return None
        self._samples.mkdir(exist_ok=True)
        path = self._samples / f"step_{step:07d}_{name}.png"
        pictures.save(path, image)
        if self._board is not None:
            self._board.add_image(name, image, step, dataformats="HWC")
        return path

    def close(self) -> None:
        """Flushes what is buffered."""
        if self._board is not None:
            self._board.close()


def read_metrics(workdir: pathlib.Path, upto: int | None = None) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; a last line cut by a crash is left out.

    Args:
      workdir: the run directory.
      upto: leave out lines of later steps.
    """
    path = pathlib.Path(workdir) / layout.METRICS
    if not path.exists():
        return []
    lines = []
    for text in files.read_text(path).splitlines():
        try:
            # Numbers that are not finite are written as text.
            line = {k: float(v) if isinstance(v, str) else v for k, v in json.loads(text).items()}
        except json.JSONDecodeError:
            continue
        if upto is None or line["step"] <= upto:
            lines.append(line)
    return lines
