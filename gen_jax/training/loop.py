"""The training loop: the only one."""

import collections
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gen_jax.common import progress
from gen_jax.common.errors import UserError
from gen_jax.parallel import distributed, sharding
from gen_jax.tasks.base import Task
from gen_jax.training import checkpoint, logging, optim, rngs, warm_start
from gen_jax.training import state as state_lib
from gen_jax.training.cadence import Cadence
from gen_jax.training.nonfinite import NonFinite
from gen_jax.training.patience import Patience
from gen_jax.training.preemption import Leaving, Preemption
from gen_jax.training.profile import Profile
from gen_jax.training.schedule import Schedule
from gen_jax.training.step import make_train_step
from gen_jax.training.throughput import Throughput, flops_of

# Metrics are read this many steps late, so that reading them never waits for the device.
_LAG = 2
_LISTED = 12  # modules whose numbers of parameters are printed at the start


@dataclasses.dataclass
class Run:
    """What the loop works with.

    Attributes:
      name: the stage, as metrics and the progress line call it.
      task: The stage.
      schedule: steps, batch and cadence.
      optimizer: group -> optimizer config.
      mesh: the devices.
      rules: sharding rules.
      workdir: the run directory.
      batches: `step -> iterator` of this process's rows as NumPy, from that step on.
      keys: record indices of a batch -> names, for error messages.
      frozen: parameters that are read and never trained.
      evaluate: `(variables, step, check) -> {metric: number}`; it writes its own pictures, and
        calls `check` before each batch, which raises to end it early.
      meta: JSON-able facts stored with each checkpoint.
      writer: where metrics go.
      init: name and variables of a run to begin from; None for fresh ones.
      pretrained: Place in the parameters of the group "model" -> name and parameters of a published
        encoder that fresh ones begin with there.
      num_records: Number of training records, which turns epochs into steps; 0 if it is unknown.
      evaluate_at_end: As `evaluate`, for what is measured at the last step only.
    """

    name: str
    task: Task
    schedule: Schedule
    optimizer: Mapping[str, Mapping[str, Any]]
    mesh: Mesh
    rules: sharding.Rules
    workdir: pathlib.Path
    batches: Callable[[int], Iterator[dict[str, np.ndarray]]]
    keys: Callable[[np.ndarray], list[str]]
    frozen: Mapping[str, Any]
    evaluate: Callable[[Mapping[str, Any], int, Callable[[], None]], dict[str, float]]
    meta: Mapping[str, Any]
    writer: logging.MetricWriter
    init: tuple[str, Mapping[str, Any]] | None = None
    pretrained: Mapping[str, tuple[str, Any]] = dataclasses.field(default_factory=dict)
    num_records: int = 0
    evaluate_at_end: Callable[[Mapping[str, Any], int, Callable[[], None]], dict[str, float]] = (
        lambda variables, step, check: {}
    )

    @functools.cached_property
    def cadence(self) -> Cadence:
        """When the run evaluates, saves and ends."""
        return Cadence.of(self.schedule, self.num_records)

    def optimizers(self):
        """Returns an optax transformation per parameter group."""
        groups = list(self.task.losses())
        if unknown := set(self.optimizer) - set(groups):
            raise UserError(
                f"config.optimizer: no parameter group {sorted(unknown)[0]!r}; "
                f"this task has {groups}"
            )
        if missing := set(groups) - set(self.optimizer):
            group = sorted(missing)[0]
            raise UserError(
                f"config.optimizer.{group} is missing: the task trains a parameter group of that "
                "name"
            )
        if unknown := set(self.schedule.ema_groups) - set(groups):
            raise UserError(
                f"config.training.ema_groups: no parameter group {sorted(unknown)[0]!r}; "
                f"this task has {groups}"
            )
        return {
            g: optim.make_optimizer(
                self._with_untrained(g), self.cadence.num_steps, f"config.optimizer.{g}"
            )
            for g in groups
        }

    def _with_untrained(self, group: str) -> dict[str, Any]:
        """Returns the optimizer config of a group, with what the task does not train frozen."""
        config = dict(self.optimizer[group])
        if group == "model" and (pattern := self.task.untrained()):
            config["freeze"] = "|".join(filter(None, (config.get("freeze"), pattern)))
        return config


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
      state: the final state.
      metrics: what the last evaluation measured.
      best_step: checkpoint with the best metric.
      last_step: the newest checkpoint.
    """

    state: state_lib.TrainState
    metrics: Mapping[str, float]
    best_step: int | None
    last_step: int | None


class Preempted(Exception):
    """SIGTERM came: the state is saved and the run may be resumed."""


def train(run: Run) -> Trained:
    """Trains from the newest checkpoint, or from nothing, to the last step.

    The last step is that of the schedule, or an earlier evaluation at which its patience ends.

    Raises:
      Preempted: SIGTERM came; everything is saved.
      UserError: too many non-finite steps in a row, a full disk, data over its error budget.
    """
    s = run.schedule
    s.check(run.mesh)
    optimizers = run.optimizers()
    ema_groups = list(s.ema_groups) if s.ema else []
    abstract = state_lib.abstract_state(run.task, optimizers, ema_groups, run.mesh, run.rules)
    for group in optimizers:
        where = f"config.optimizer.{group}"
        optim.check_freeze(run.optimizer[group], abstract.params[group], where)
    saver = checkpoint.Checkpointer(
        run.workdir,
        keep=s.keep,
        best_metric=s.best_metric,
        best_mode=s.best_mode,
        is_kept=run.cadence.is_kept,
        report=progress.say,
    )
    try:
        state, metrics = _train(run, saver, optimizers, ema_groups, abstract)
        return Trained(state, metrics, saver.best_step(metrics), saver.latest_step())
    finally:
        saver.close()


def _train(run, saver, optimizers, ema_groups, abstract):
    s = run.schedule
    restored, skipped = saver.restore_latest(abstract), 0
    patience = Patience(s)
    if restored is None:
        began = time.perf_counter()
        state = state_lib.create_state(
            run.task, optimizers, ema_groups, run.mesh, run.rules, s.seed
        )
        progress.say(f"{run.name}: made the parameters in {time.perf_counter() - began:.1f} s")
        for place, (name, params) in run.pretrained.items():
            state = warm_start.put(state, place, params, name)
            progress.say(f"{run.name}: {place} begins with the weights of {name}")
        if run.init is not None:
            task = run.task
            state, text = warm_start.take(
                state, run.init[1], run.init[0], task.inherited, task.required
            )
            progress.say(f"{run.name}: {text}")
        start = 0
        run.writer.rewind(0)  # of a run that was killed before its first checkpoint
        _print_overview(state.params)
    else:
        state, meta = restored
        skipped, patience = meta["skipped_steps"], Patience(s, meta.get("patience"))
        start = int(state.step)
        run.writer.rewind(start)
        progress.say(f"{run.name}: resumed from step {start}")
    is_over = start >= run.cadence.num_steps or patience.is_over
    # SIGTERM came before or in the evaluation of this step, which early stopping has to count.
    is_cut = patience.lacks(start) and run.cadence.is_evaluation(start)
    if is_over or is_cut:
        with Preemption() as preemption:
            measured = _evaluate(run, state, start, preemption, patience)
        if measured is None:
            raise Preempted(f"saved at step {start}")
        lines = logging.read_metrics(run.workdir)
        if not any(x["step"] == start and measured.keys() <= x.keys() for x in lines):
            run.writer.scalars(start, measured)  # the evaluation was cut off the first time
        saver.add_metrics(start, measured)
        if patience.is_over:
            progress.say(
                f"{run.name}: stopped at step {start} of {run.cadence.num_steps}: {patience}"
            )
        if is_over or patience.is_over:
            return state, measured

    batches = run.batches(start)
    try:
        return _steps(run, saver, optimizers, state, start, skipped, patience, batches)
    finally:
        # Threads and worker processes that read ahead; a list's iterator has none.
        getattr(batches, "close", lambda: None)()


def _steps(run, saver, optimizers, state, start, skipped, patience, batches):
    s, cadence = run.schedule, run.cadence
    num_steps = cadence.num_steps
    batch_sharding = sharding.batch_sharding(run.mesh)
    root = rngs.root_key(s.seed)
    first, wait = _next(batches)
    _check_batch(run.task.batch_spec(), first)
    indices = first.get("index")
    batch = distributed.to_global(_wanted(run.task, first), batch_sharding)

    progress.say(f"{run.name}: compiling the train step...")
    began = time.perf_counter()
    step_fn, flops = _compile(run, optimizers, state, batch, root)
    progress.say(f"{run.name}: compiled the train step in {time.perf_counter() - began:.1f} s")

    line = progress.ProgressLine(run.name, num_steps, start)
    speed = Throughput(s.batch_size, flops)
    schedules = {g: optim.make_schedule(run.optimizer[g], num_steps) for g in optimizers}
    guard = NonFinite(s.max_nonfinite, saver, run.keys, skipped)
    pending, window = collections.deque(), []
    last_eval: dict[str, float] = {}
    profile = Profile(run.workdir, start, num_steps, s.profile_steps)
    with Preemption() as preemption, profile, line:
        for step in range(start + 1, num_steps + 1):
            profile.before(step)
            state, metrics = step_fn(state, batch, run.frozen, root)
            pending.append((step, indices, metrics))
            if step < num_steps:
                rows, wait = _next(batches)
                indices = rows.get("index")
                batch = distributed.to_global(_wanted(run.task, rows), batch_sharding)
            logs = cadence.is_log(step)
            while len(pending) > (0 if logs else _LAG):
                window.append(guard.check(*pending.popleft()))
            speed.step(wait)
            profile.after(step, state)

            if logs:
                values = _means(window)
                window.clear()
                values |= {f"{g}/learning_rate": float(f(step)) for g, f in schedules.items()}
                values |= speed.values() | {"skipped_steps": guard.total}
                run.writer.scalars(step, values)
                line.update(step, values, cadence.epoch(step))

            leaving, measured = preemption.reached(), {}
            if cadence.is_evaluation(step) and not leaving:
                result = _evaluate(run, state, step, preemption, patience)
                leaving = result is None
                if result is not None:
                    last_eval = measured = result
                    run.writer.scalars(step, measured)
            if leaving or cadence.is_checkpoint(step):
                while pending:
                    window.append(guard.check(*pending.popleft()))
                facts = {"skipped_steps": guard.total, "patience": patience.record()}
                saver.save(state, {**run.meta, **facts}, measured)
                speed.pause()
            if leaving:
                saver.wait()
                raise Preempted(f"saved at step {step}")
            if patience.is_over:
                break
    if patience.is_over:
        progress.say(f"{run.name}: stopped at step {step} of {num_steps}: {patience}")
    saver.wait()
    return state, last_eval


def _evaluate(run, state, step, preemption, patience) -> dict[str, float] | None:
    """Returns what an evaluation measures; None if SIGTERM ended it, whose grace may be shorter."""
    try:
        measured = run.evaluate(state.variables(), step, preemption.check)
        patience.update(step, measured)
        # Only after the count it is known whether this is the last evaluation.
        if step >= run.cadence.num_steps or patience.is_over:
            final = run.evaluate_at_end(state.variables(), step, preemption.check)
            measured = {**measured, **final}
        return measured
    except Leaving:
        return None


def _compile(run, optimizers, state, batch, root):
    fn = make_train_step(
        run.task,
        optimizers,
        accumulation_steps=run.schedule.accumulation_steps,
        ema=run.schedule.ema,
    )
    state_sharding = jax.tree.map(lambda x: x.sharding, state)
    jitted = jax.jit(fn, donate_argnums=(0,), out_shardings=(state_sharding, None))
    lowered = jitted.lower(state, batch, run.frozen, root)
    return lowered.compile(), flops_of(lowered)


def _next(batches) -> tuple[dict[str, np.ndarray], float]:
    began = time.perf_counter()
    rows = next(batches)
    return rows, time.perf_counter() - began


def _wanted(task, rows):
    return {k: rows[k] for k in task.batch_spec()}


def _check_batch(spec, rows) -> None:
    for key, want in spec.items():
        if key not in rows:
            raise UserError(
                f"config.data: the task reads {key!r}, which the data does not have "
                f"(it has {sorted(rows)})"
            )
        have = rows[key]
        if tuple(have.shape[1:]) != tuple(want.shape) or have.dtype != want.dtype:
            raise UserError(
                f"config.data: {key!r} is {have.dtype}{list(have.shape[1:])}, but the task "
                f"reads {want.dtype}{list(want.shape)}; make config.data and config.task agree"
            )


def _means(window: list[dict[str, float]]) -> dict[str, float]:
    """Means over the steps since the last line; a skipped step counts in `nonfinite` alone."""
    good = [v for v in window if not v["nonfinite"]] or window
    means = {k: sum(v[k] for v in good) / len(good) for k in good[0]}
    return means | {"nonfinite": sum(v["nonfinite"] for v in window) / len(window)}


def _print_overview(params) -> None:
    if not distributed.is_main():
        return
    for group, tree in params.items():
        counts = {k: sum(x.size for x in jax.tree.leaves(part)) for k, part in tree.items()}
        print(f"parameters of {group!r}: {sum(counts.values()):,}", flush=True)
        if 1 < len(counts) <= _LISTED:
            print("  " + ", ".join(f"{k} {v:,}" for k, v in counts.items()), flush=True)
