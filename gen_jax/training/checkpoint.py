"""Checkpoints: one atomic step holds the state, the place in the data and fingerprints of both."""

import math
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from gen_jax.common.app import place_error
from gen_jax.common.errors import UserError
from gen_jax.runs import checkpoint_files, layout
from gen_jax.runs.checkpoint_files import MODEL, OPTIMIZER, Damaged
from gen_jax.training.state import TrainState

# Room that a checkpoint needs in addition to its arrays: metadata, and the file system's blocks.
_SPARE = 2**20

_GOOD, _DAMAGED, _UNREADABLE = range(3)


def _is_sharded(tree: Any) -> bool:
    return any(not x.sharding.is_fully_replicated for x in jax.tree.leaves(tree))


def _split(state: Any) -> dict[str, Any]:
    return {
        MODEL: {"params": state.params, "ema": state.ema, "extra": state.extra},
        OPTIMIZER: {"step": state.step, "opt_state": state.opt_state},
    }


def _join(model: Any, optimizer: Any) -> TrainState:
    return TrainState(**model, **optimizer)


class Checkpointer:
    """Saves and restores a run's states.

    Args:
      workdir: The run directory.
      keep: Number of the newest checkpoints to keep.
      best_metric: Name of the metric whose best checkpoint is kept as well ("" for none).
      best_mode: "min" or "max".
      is_kept: Whether the checkpoint of a step is never deleted.
      report: Called with a line whenever a damaged checkpoint is moved aside.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        keep: int = 2,
        best_metric: str = "",
        best_mode: str = "min",
        is_kept: Callable[[int], bool] = lambda step: False,
        report: Callable[[str], None] = logging.warning,
    ):
        self._folder = pathlib.Path(workdir) / layout.CHECKPOINTS
        self._report = report
        self._keep, self._best_metric, self._is_kept = keep, best_metric, is_kept
        self._sign = 1.0 if best_mode == "min" else -1.0
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self, enable_async_checkpointing=True
        )
        self._manager = _with_place_errors(
            self._folder, lambda: ocp.CheckpointManager(self._folder, options=options)
        )
        self._scores: dict[int, float] = {}  # step -> what the best one has least of
        for step in self._manager.all_steps():
            try:
                meta = checkpoint_files.read_meta(self._folder / str(step))
            except (Damaged, UserError):
                continue  # `restore_latest` names it if it matters
            self._scores[step] = self._score(meta["metrics"])

    def _score(self, metrics: dict[str, float]) -> float:
        value = metrics.get(self._best_metric, math.nan)
        return self._sign * value if math.isfinite(value) else math.inf

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Implements Orbax's preservation policy: keeps the newest, the best, and `is_kept`."""
        kept = {info.step for info in checkpoints[-self._keep :]} | {self._best()}
        return [info.step in kept or self._is_kept(info.step) for info in checkpoints]

    def _best(self) -> int | None:
        """Returns the step with the best metric, the first of several; None without any metric."""
        finite = {k: v for k, v in sorted(self._scores.items()) if math.isfinite(v)}
        return min(finite, key=finite.get, default=None)

    def latest_step(self) -> int | None:
        """Returns the newest finished step, or None."""
        return self._manager.latest_step()

    def best_step(self, newest: dict[str, float] | None = None) -> int | None:
        """Returns the step with the best metric, or the newest if no step has one.

        Args:
          newest: Metrics of the newest step that were measured after it was saved.
        """
        best, last = self._best(), self._manager.latest_step()
        if best is None or best == last or newest is None:
            return last if best is None else best
        return last if self._score(newest) < self._scores[best] else best

    def add_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Counts metrics of a saved step that were measured after it was saved.

        They are not written, so that another process knows the step without them.
        """
        if step in self._scores and math.isinf(self._scores[step]):
            self._scores[step] = self._score(metrics)

    def save(self, state: TrainState, meta: dict[str, Any], metrics: dict[str, float]) -> None:
        """Saves in the background; waits for an earlier save that is under way.

        Args:
          state: The state to save.
          meta: JSON-able facts that belong to the step, such as the place in the data.
          metrics: Evaluation metrics of this step, may be empty.

        Raises:
          UserError: The disk is full or not writable (of this or of the earlier save).
        """
        self.wait()
        step = int(state.step)
        items = _split(state)
        self._check_space(items)
        metrics = {k: float(v) for k, v in metrics.items() if math.isfinite(v)}
        args = ocp.args.Composite(
            **{k: ocp.args.StandardSave(v) for k, v in items.items()},
            meta=ocp.args.JsonSave(
                checkpoint_files.sealed({**meta, "step": step, "metrics": metrics}, items)
            ),
        )
        # Before the save, which removes what the policy does not keep.
        self._scores[step] = self._score(metrics)
        _with_place_errors(self._folder, lambda: self._manager.save(step, args=args, force=True))

    def _check_space(self, items: dict[str, Any]) -> None:
        """Refuses a save for which there is no room, before anything is half written."""
        need = sum(x.addressable_data(0).nbytes for x in jax.tree.leaves(items))
        need = int(1.25 * need * max(1, len(jax.local_devices()) if _is_sharded(items) else 1))
        need += _SPARE
        free = shutil.disk_usage(self._folder).free
        if _max_over_processes(int(free < need)):
            raise UserError(
                f"{self._folder}: the disk is full: a checkpoint needs {need / 2**20:.1f} MiB and "
                f"{free / 2**20:.1f} MiB are free; free some space, earlier checkpoints are intact"
            )

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
          UserError: It could not be written.
        """
        _with_place_errors(self._folder, self._manager.wait_until_finished)

    def restore_latest(self, abstract: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Restores the newest undamaged state.

        Damaged checkpoints that are newer are reported and moved aside (`STEP.damaged`), but only
        once an older one has been read: if none can be read, the fault may be the program's, and
        all stay where they are.

        Args:
          abstract: Shapes, dtypes and shardings to restore to, on any number of devices.

        Returns:
          The state and the meta of its step, or None if nothing was saved yet.

        Raises:
          UserError: No checkpoint is undamaged, or one cannot be read for another reason.
        """
        faults: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            restored, fault, refusal = None, "", None
            try:
                restored = self._restore(step, abstract)
            except Damaged as error:
                fault = str(error)
            except UserError as error:
                refusal = error
            outcome = _GOOD if restored else _UNREADABLE if refusal else _DAMAGED
            worst = _max_over_processes(outcome)
            if worst == _UNREADABLE:
                raise refusal or UserError(f"{self._folder}: another process cannot read {step}")
            if worst == _GOOD:
                self._set_aside(faults)
                return restored
            faults[step] = fault or "another process found it damaged"
        if faults:
            raise UserError(
                f"{self._folder}: every checkpoint is damaged "
                f"({'; '.join(f'{step}: {fault}' for step, fault in faults.items())}); nothing was "
                "moved, put back a copy of one or name another folder"
            )
        return None

    def _restore(self, step: int, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
        folder = self._folder / str(step)
        meta = checkpoint_files.read_meta(folder)
        items = {k: ocp.args.StandardRestore(v) for k, v in _split(abstract).items()}
        with checkpoint_files.reading(folder):
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
            restored = {k: restored[k] for k in items}
            checkpoint_files.check_arrays(meta, restored)
        return _join(restored[MODEL], restored[OPTIMIZER]), meta

    def _set_aside(self, faults: dict[int, str]) -> None:
        """Renames damaged checkpoints, so that their steps can be saved again."""
        if not faults:
            return
        if jax.process_index() == 0:
            for step, fault in faults.items():
                aside, number = self._folder / f"{step}.damaged", 1
                while aside.exists():
                    number += 1
                    aside = self._folder / f"{step}.damaged-{number}"
                folder = self._folder / str(step)
                _with_place_errors(self._folder, lambda a=folder, b=aside: a.rename(b))
                self._report(
                    f"checkpoint {step} is damaged ({fault}): moved to {aside}, going on from the "
                    "one before"
                )
        _max_over_processes(_GOOD)  # a barrier: nobody lists the folder before the move
        for step in faults:
            self._scores.pop(step, None)
        self._manager.reload()

    def close(self) -> None:
        """Waits for what is under way and lets go of the folder."""
        self.wait()
        _with_place_errors(self._folder, self._manager.close)


def _max_over_processes(value: int) -> int:
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.process_allgather(np.asarray(value)).max())


def _with_place_errors(folder: pathlib.Path, action: Callable[[], Any]) -> Any:
    """Runs `action`; what the file system refuses becomes one line."""
    try:
        return action()
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and (known := place_error(cause)):
                raise UserError(f"{folder}: {known}") from error
            cause = cause.__cause__ or cause.__context__
        text = str(error)
        # TensorStore reports as text what the operating system said.
        for sign, reason in (
            (
                "RESOURCE_EXHAUSTED: Error writing",
                "the disk is full; earlier checkpoints are intact",
            ),
            ("No space left", "the disk is full; free some space, earlier checkpoints are intact"),
            ("Disk quota exceeded", "the disk quota is used up; earlier checkpoints are intact"),
            ("Permission denied", "permission denied; name a folder that you may write to"),
            ("Read-only file system", "the file system is read-only; name another folder"),
        ):
            if sign in text:
                raise UserError(f"{folder}: {reason}") from error
        raise
