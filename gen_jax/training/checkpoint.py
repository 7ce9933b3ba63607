"""Checkpoints: one atomic step holds the state, the place in the data and fingerprints of both."""

import hashlib
import json
import math
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import preservation_policy

from gen_jax.common.app import place_error
from gen_jax.common.errors import UserError
from gen_jax.runs import layout
from gen_jax.training import seal
from gen_jax.training.fingerprint import fingerprint
from gen_jax.training.state import TrainState

# The state is stored in two items, so that inference reads no optimizer moments.
MODEL, OPTIMIZER, META = "model", "optimizer", "meta"


# Room that a checkpoint needs besides its arrays: metadata, and the file system's blocks.
_SPARE = 2**20


def _split_up(tree: Any) -> bool:
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
      workdir: the run directory.
      keep: the newest checkpoints to keep.
      best_metric: name of the metric whose best checkpoint is kept besides ("" for none).
      best_mode: "min" or "max".
      report: called with a line whenever a damaged checkpoint is passed over.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        keep: int = 2,
        best_metric: str = "",
        best_mode: str = "min",
        report: Callable[[str], None] = logging.warning,
    ):
        self._folder = pathlib.Path(workdir) / layout.CHECKPOINTS
        self._report = report
        self._seals = seal.Seals(self._folder)
        sign = 1.0 if best_mode == "min" else -1.0

        def score(metrics: dict[str, float]) -> float:
            value = (metrics or {}).get(best_metric, math.nan)
            return sign * value if math.isfinite(value) else math.inf

        self._score = score
        policies = [preservation_policy.LatestN(keep)]
        if best_metric:
            policies.append(preservation_policy.BestN(get_metric_fn=score, reverse=True, n=1))
        options = ocp.CheckpointManagerOptions(
            best_fn=score if best_metric else None,
            best_mode="min",
            preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
            enable_async_checkpointing=True,
        )
        self._manager = _with_place_errors(
            self._folder, lambda: ocp.CheckpointManager(self._folder, options=options)
        )

    def latest_step(self) -> int | None:
        """The newest finished step, or None."""
        return self._manager.latest_step()

    def best_step(self, newest: dict[str, float] | None = None) -> int | None:
        """The step with the best metric, or the newest where none has one.

        Args:
          newest: what was measured of the newest step since it was saved.
        """
        best, last = self._manager.best_step(), self._manager.latest_step()
        if best is None or best == last or newest is None:
            return last if best is None else best
        return last if self._score(newest) < self._score(self._manager.metrics(best)) else best

    def save(self, state: TrainState, meta: dict[str, Any], metrics: dict[str, float]) -> None:
        """Saves in the background; an earlier save that is under way is waited for.

        Args:
          state: the state to save.
          meta: JSON-able facts that belong to the step, such as the place in the data.
          metrics: what evaluation measured at this step, may be empty.

        Raises:
          UserError: the disk is full or not writable (of this or of the earlier save).
        """
        self.wait()
        step = int(state.step)
        items = _split(state)
        self._check_space(items)
        meta = {**meta, "step": step, "fingerprint": fingerprint(items)}
        args = ocp.args.Composite(
            **{k: ocp.args.StandardSave(v) for k, v in items.items()},
            meta=ocp.args.JsonSave({"content": meta, "sha256": _digest(meta)}),
        )
        _with_place_errors(
            self._folder, lambda: self._manager.save(step, args=args, metrics=metrics, force=True)
        )

    def _check_space(self, items: dict[str, Any]) -> None:
        """Refuses a save for which there is no room, before anything is half written."""
        need = sum(x.addressable_data(0).nbytes for x in jax.tree.leaves(items))
        need = int(1.25 * need * max(1, len(jax.local_devices()) if _split_up(items) else 1))
        need += _SPARE
        free = shutil.disk_usage(self._folder).free
        if not _all_agree(free >= need):
            raise UserError(
                f"{self._folder}: the disk is full: a checkpoint needs {need / 2**20:.1f} MiB and "
                f"{free / 2**20:.1f} MiB are free; free some space, earlier checkpoints are intact"
            )

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
          UserError: it could not be written.
        """
        _with_place_errors(self._folder, self._manager.wait_until_finished)
        if jax.process_index() == 0:
            _with_place_errors(self._folder, lambda: self._seals.write(self._manager.all_steps()))

    def restore_latest(self, abstract: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest undamaged state with its meta, or None where nothing was saved yet.

        A damaged checkpoint is reported, moved aside (`STEP.damaged`) and the one before is used.

        Args:
          abstract: shapes, dtypes and shardings to restore to, on any number of devices.

        Raises:
          UserError: there are checkpoints and all are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                found, fault = self._restore(step, abstract), ""
            except Exception as error:  # whatever a damaged file makes the readers raise
                found, fault = None, f"{type(error).__name__}: {error}"
            if _all_agree(found is not None):
                return found
            self._set_aside(step, fault or "another process could not read it")
        if steps:
            raise UserError(
                f"{self._folder}: every checkpoint is damaged ({', '.join(map(str, steps))}); "
                "they were moved aside, start in another --workdir or restore a backup"
            )
        return None

    def _restore(self, step: int, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
        items = _split(abstract)
        if jax.process_index() == 0:
            self._seals.check(step)
        args = ocp.args.Composite(
            **{k: ocp.args.StandardRestore(v) for k, v in items.items()},
            meta=ocp.args.JsonRestore(),
        )
        got = self._manager.restore(step, args=args)
        meta = got[META]["content"]
        if _digest(meta) != got[META]["sha256"]:
            raise ValueError("its meta file does not match its digest")
        now = fingerprint({k: got[k] for k in items})
        if wrong := [k for k, v in meta["fingerprint"].items() if now.get(k) != v]:
            raise ValueError(f"array {wrong[0]!r} is not what was saved")
        return _join(got[MODEL], got[OPTIMIZER]), meta

    def _set_aside(self, step: int, fault: str) -> None:
        if jax.process_index() == 0:
            folder = self._folder / str(step)
            aside = self._folder / f"{step}.damaged"
            number = 1
            while aside.exists():
                number += 1
                aside = self._folder / f"{step}.damaged-{number}"
            folder.rename(aside)
            self._seals.forget(step)
            self._report(
                f"checkpoint {step} is damaged ({' '.join(fault.split())[:200]}): "
                f"moved to {aside}, going on from the one before"
            )
        _all_agree(True)  # a barrier: nobody lists the folder before the move
        self._manager.reload()

    def close(self) -> None:
        """Waits for what is under way and lets go of the folder."""
        self.wait()
        self._seals.close()
        _with_place_errors(self._folder, self._manager.close)


def _digest(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _all_agree(ok: bool) -> bool:
    if jax.process_count() == 1:
        return ok
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.asarray(ok)).all())


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
            ("Permission denied", "permission denied; name a --workdir that you may write to"),
            ("Read-only file system", "the file system is read-only; name another --workdir"),
        ):
            if sign in text:
                raise UserError(f"{folder}: {reason}") from error
        raise
