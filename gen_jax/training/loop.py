"""The training loop: the only one."""

import collections
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gen_jax.common.errors import UserError
from gen_jax.parallel import distributed, sharding
from gen_jax.training import checkpoint, logging, optim, progress, rngs, warm_start
from gen_jax.training import state as state_lib
from gen_jax.training.nonfinite import NonFinite
from gen_jax.training.preemption import Leaving, Preemption
from gen_jax.training.step import make_train_step
from gen_jax.training.throughput import Throughput, flops_of

# Metrics are read this many steps late, so that reading them never waits for the device.
_LAG = 2


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What `config.training` may hold.

    Attributes:
      num_steps: steps in all.
      batch_size: the global batch.
      seed: of the parameters, the order of the data and every random stream.
      accumulation_steps: parts that a batch is worked through in.
      ema: decay of the parameters' moving average, 0 for none.
      ema_groups: the groups that keep one.
      log_every: steps between lines of metrics.
      eval_every: steps between evaluations, 0 for one at the end.
      checkpoint_every: steps between checkpoints, 0 for one at each evaluation.
      keep: newest checkpoints to keep.
      best_metric: evaluation metric whose best checkpoint is kept besides.
      best_mode: "min" or "max".
      max_nonfinite: skipped steps in a row that stop the run.
      profile_steps: steps to trace for the profiler, from the tenth on; 0 for none.
    """

    num_steps: int
    batch_size: int
    seed: int = 0
    accumulation_steps: int = 1
    ema: float = 0.999
    ema_groups: tuple[str, ...] = ("model",)
    log_every: int = 50
    eval_every: int = 0
    checkpoint_every: int = 0
    keep: int = 2
    best_metric: str = ""
    best_mode: str = "min"
    max_nonfinite: int = 20
    profile_steps: int = 0

    def check(self, mesh: Mesh) -> None:
        """Raises UserError where the numbers do not fit each other or the mesh."""
        data = mesh.shape["replica"] * mesh.shape["fsdp"]
        part = self.batch_size // max(1, self.accumulation_steps)
        if self.num_steps < 1 or self.batch_size < 1 or self.accumulation_steps < 1:
            raise UserError(
                "config.training: num_steps, batch_size and accumulation_steps must be at least 1"
            )
        if self.batch_size % self.accumulation_steps or part % data:
            raise UserError(
                f"config.training.batch_size={self.batch_size} must be a multiple of "
                f"accumulation_steps x data devices = {self.accumulation_steps} x {data}"
            )
        if self.batch_size % jax.process_count():
            raise UserError(
                f"config.training.batch_size={self.batch_size} must be a multiple of "
                f"the {jax.process_count()} processes"
            )
        if self.best_mode not in ("min", "max"):
            raise UserError("config.training.best_mode must be 'min' or 'max'")


@dataclasses.dataclass
class Run:
    """What the loop works with.

    Attributes:
      name: the stage, as metrics and the progress line call it.
      task: a `tasks.base.Task`.
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
    """

    name: str
    task: Any
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

    def optimizers(self):
        """One optax transformation a group."""
        groups = list(self.task.losses())
        if unknown := set(self.optimizer) - set(groups):
            raise UserError(
                f"config.optimizer: no parameter group {sorted(unknown)[0]!r}; "
                f"this task has {groups}"
            )
        return {
            g: optim.make_optimizer(self.optimizer.get(g, {}), self.schedule.num_steps)
            for g in groups
        }


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

    Raises:
      Preempted: SIGTERM came; everything is saved.
      UserError: too many non-finite steps in a row, a full disk, data over its error budget.
    """
    s = run.schedule
    s.check(run.mesh)
    optimizers = run.optimizers()
    ema_groups = [g for g in s.ema_groups if g in run.task.losses()] if s.ema else []
    abstract = state_lib.abstract_state(run.task, optimizers, ema_groups, run.mesh, run.rules)
    saver = checkpoint.Checkpointer(
        run.workdir,
        keep=s.keep,
        best_metric=s.best_metric,
        best_mode=s.best_mode,
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
    if restored is None:
        began = time.perf_counter()
        state = state_lib.create_state(
            run.task, optimizers, ema_groups, run.mesh, run.rules, s.seed
        )
        progress.say(f"{run.name}: made the parameters in {time.perf_counter() - began:.1f} s")
        if run.init is not None:
            inherited = getattr(run.task, "inherited", ())
            needed = getattr(run.task, "needed", "^$")
            state, text = warm_start.take(state, run.init[1], run.init[0], inherited, needed)
            progress.say(f"{run.name}: {text}")
        start = 0
        _print_overview(state.params)
    else:
        state, meta = restored
        skipped = meta["skipped_steps"]
        start = int(state.step)
        run.writer.rewind(start)
        progress.say(f"{run.name}: resumed from step {start}")
    if start >= s.num_steps:
        with Preemption() as preemption:
            measured = _evaluate(run, state, start, preemption)
        if measured is None:
            raise Preempted(f"saved at step {start}")
        lines = logging.read_metrics(run.workdir)
        if not any(x["step"] == start and measured.keys() <= x.keys() for x in lines):
            run.writer.scalars(start, measured)  # the evaluation was cut off the first time
        return state, measured

    batches = run.batches(start)
    try:
        return _steps(run, saver, optimizers, state, start, skipped, batches)
    finally:
        # Threads and worker processes that read ahead; a list's iterator has none.
        getattr(batches, "close", lambda: None)()


def _steps(run, saver, optimizers, state, start, skipped, batches):
    s = run.schedule
    batch_sharding = sharding.batch_sharding(run.mesh)
    root = rngs.root_key(s.seed)
    first, wait = _next(batches)
    _check_batch(run.task.batch_spec(), first)
    indices = first.get("index")
    batch = distributed.to_global(_wanted(run.task, first), batch_sharding)

    began = time.perf_counter()
    step_fn, flops = _compile(run, optimizers, state, batch, root)
    progress.say(f"{run.name}: compiled the train step in {time.perf_counter() - began:.1f} s")

    line = progress.ProgressLine(run.name, s.num_steps, start)
    speed = Throughput(s.batch_size, flops)
    schedules = {g: optim.make_schedule(run.optimizer.get(g, {}), s.num_steps) for g in optimizers}
    guard = NonFinite(s.max_nonfinite, saver, run.keys, skipped)
    pending, window = collections.deque(), []
    last_eval: dict[str, float] = {}
    profile = _Profile(run.workdir, start, s.profile_steps)
    with Preemption() as preemption:
        for step in range(start + 1, s.num_steps + 1):
            profile.before(step)
            state, metrics = step_fn(state, batch, run.frozen, root)
            pending.append((step, indices, metrics))
            if step < s.num_steps:
                rows, wait = _next(batches)
                indices = rows.get("index")
                batch = distributed.to_global(_wanted(run.task, rows), batch_sharding)
            logs = step % s.log_every == 0 or step == s.num_steps
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
                line.update(step, values)

            leaving, measured = preemption.reached(), {}
            at_eval = step == s.num_steps or (s.eval_every and step % s.eval_every == 0)
            if at_eval and not leaving:
                found = _evaluate(run, state, step, preemption)
                leaving = found is None
                if found is not None:
                    last_eval = measured = found
                    run.writer.scalars(step, measured)
            every = s.checkpoint_every
            if leaving or at_eval or (every and step % every == 0):
                while pending:
                    window.append(guard.check(*pending.popleft()))
                saver.save(state, {**run.meta, "skipped_steps": guard.total}, measured)
                speed.pause()
            if leaving:
                saver.wait()
                line.close()
                raise Preempted(f"saved at step {step}")
    saver.wait()
    line.close()
    return state, last_eval


def _evaluate(run, state, step, preemption) -> dict[str, float] | None:
    """What an evaluation measures; None where SIGTERM ended it, whose grace may be shorter."""
    try:
        return run.evaluate(state.variables(), step, preemption.check)
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


class _Profile:
    """Traces some steps for TensorBoard's profiler, where asked."""

    def __init__(self, workdir: pathlib.Path, start: int, steps: int):
        self._folder = str(workdir / "profile")
        self._first, self._last = start + 10, start + 9 + steps
        self._on = steps > 0

    def before(self, step: int) -> None:
        if self._on and step == self._first:
            jax.profiler.start_trace(self._folder)

    def after(self, step: int, state) -> None:
        if self._on and step == self._last:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            progress.say(f"wrote a profile to {self._folder}")


def _print_overview(params) -> None:
    if not distributed.is_main():
        return
    from clu import parameter_overview

    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    for group, tree in shapes.items():
        total = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))
        rows = parameter_overview.get_parameter_overview(tree, include_stats=False)
        lines = rows.splitlines()
        # The whole table of a large model helps nobody at the start of a run.
        if len(lines) > 40:
            lines = [*lines[:12], f"| ... {len(lines) - 18} more ...", *lines[-6:]]
        print(f"parameters of {group!r}: {total:,}")
        print("\n".join(lines), flush=True)
