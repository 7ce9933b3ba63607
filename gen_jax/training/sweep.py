"""A config over many values of some fields: trials in processes, kept in an SQLite file."""

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState

from gen_jax.common import folder_lock
from gen_jax.common.build import as_tuples
from gen_jax.common.errors import UserError
from gen_jax.common.process_id import ProcessId
from gen_jax.common.progress import say
from gen_jax.runs import layout
from gen_jax.training import search_space
from gen_jax.training.logging import read_metrics
from gen_jax.training.search_space import Dimension

DATABASE = "study.db"
_LOOK_EVERY = 1.0  # seconds between looks at a running trial
_HEARTBEAT = 30  # seconds; a trial that is silent for twice as long has no process any more
_STOP = 30.0  # seconds for a trial to save and end


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep does.

    Attributes:
      arguments: of `gen_jax.main`, the config and its overrides, the same for each trial.
      space: what is varied.
      out: folder of everything.
      name: of the study; "" goes through the grid.
      trials: number of trials at most.
      metric: of report.json, "STAGE/NAME".
      mode: `min` or `max`.
      prune: whether trials are stopped that are worse than the median of others at the same step.
      warmup: steps before which none is.
      seed: of the search.
      program: that a trial is a process of.
    """

    arguments: tuple[str, ...]
    space: tuple[Dimension, ...]
    out: pathlib.Path
    name: str
    trials: int
    metric: str
    mode: str
    prune: bool
    warmup: int
    seed: int
    program: tuple[str, ...] = (sys.executable, "-m", "gen_jax.main")


def open_study(plan: Plan) -> optuna.Study:
    """The study in the plan's folder, made if it is not there; a grid's points wait in it.

    Raises:
      UserError: the file is no study, or another space or metric has been swept there.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Heartbeats are "experimental" to it, and meant for a loop that is not ours.
    warnings.filterwarnings("ignore", module="optuna")
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    pruner = optuna.pruners.NopPruner()
    if plan.prune:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=plan.warmup)
    with _alone(plan.out):  # two that make the tables at once fail
        path = plan.out / DATABASE
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}},
            heartbeat_interval=_HEARTBEAT, grace_period=2 * _HEARTBEAT,
        )  # fmt: skip
        study = optuna.create_study(
            storage=storage,
            study_name=plan.name or "grid",
            # Each process draws from a seed of its own, or all would try the same.
            sampler=optuna.samplers.TPESampler(seed=(plan.seed + os.getpid() % 65_536) % 2**32),
            pruner=pruner,
            direction="maximize" if plan.mode == "max" else "minimize",
            load_if_exists=True,
        )
        what = json.dumps([plan.arguments, [dataclasses.asdict(d) for d in plan.space],
                           plan.metric, plan.mode])  # fmt: skip
        if study.user_attrs.get("what", what) != what:
            raise UserError(
                f"out={plan.out}: holds a sweep of another config, space or metric; name another "
                "folder"
            )
        if "what" not in study.user_attrs:
            study.set_user_attr("what", what)
            if not plan.name:
                for values in search_space.grid(plan.space):
                    study.enqueue_trial(_plain(values))
        _take_up_again(study)
    return study


@contextlib.contextmanager
def _alone(out: pathlib.Path) -> Iterator[None]:
    """Only one process at a time."""
    with open(out / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _take_up_again(study: optuna.Study) -> None:
    """Trials whose process has gone wait again, in the folder that they had."""
    optuna.storages.fail_stale_trials(study)  # of other machines, by their silence
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING and _has_ended(trial.user_attrs.get("process")):
            study.tell(trial.number, state=TrialState.FAIL)
    again = {t.user_attrs.get("again_of") for t in study.get_trials(deepcopy=False)}
    for trial in study.get_trials(deepcopy=False):
        stale = trial.state == TrialState.FAIL and "error" not in trial.user_attrs
        if stale and trial.number not in again:
            folder = trial.user_attrs.get("folder", f"{trial.number:04d}")
            study.enqueue_trial(
                trial.params, user_attrs={"again_of": trial.number, "folder": folder}
            )


def run(plan: Plan, workers: int) -> optuna.Study:
    """Runs trials until there are enough; several processes may do so on one folder.

    Args:
      plan: see `Plan`.
      workers: trials at the same time in this process.
    """
    study, stop = open_study(plan), threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        while not stop.is_set():
            with _alone(plan.out):
                if not _more(study, plan):
                    return
                trial = study.ask()
                trial.set_user_attr("process", dataclasses.asdict(ProcessId.current()))
                trial.set_user_attr("folder", trial.user_attrs.get("folder", f"{trial.number:04d}"))
                values = {d.key: _suggested(trial, d) for d in plan.space}
            try:
                _run_trial(study, trial, values, plan, stop)
            except BaseException as error:
                errors.append(error)
                stop.set()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
    except BaseException:
        stop.set()
        for thread in threads:
            thread.join()
        raise
    if errors:
        raise errors[0]
    return study


def _has_ended(values: Any) -> bool:
    """Returns whether a process of this system is known to be gone."""
    process = ProcessId.from_json(values)
    return process is not None and bool(process.has_ended())


def _more(study: optuna.Study, plan: Plan) -> bool:
    """Whether another trial is to be begun."""
    trials = study.get_trials(deepcopy=False)
    # One that failed by itself counts, or it would be tried for ever.
    begun = sum(
        "error" in t.user_attrs if t.state == TrialState.FAIL else t.state != TrialState.WAITING
        for t in trials
    )
    waiting = any(t.state == TrialState.WAITING for t in trials)
    return begun < plan.trials and (waiting or bool(plan.name))


def _suggested(trial: optuna.Trial, dimension: Dimension) -> Any:
    if dimension.values:
        chosen = trial.suggest_categorical(dimension.key, [_scalar(v) for v in dimension.values])
        return json.loads(chosen) if _is_text_of(chosen, dimension.values) else chosen
    whole = all(isinstance(v, int) for v in (dimension.low, dimension.high, dimension.step or 1))
    suggest = trial.suggest_int if whole else trial.suggest_float
    step = dimension.step if not whole else int(dimension.step or 1)
    return suggest(dimension.key, dimension.low, dimension.high, step=step, log=dimension.log)


def _scalar(value: Any) -> Any:
    """A value as a study keeps it: tuples as text."""
    return json.dumps(value) if isinstance(value, tuple | list) else value


def _is_text_of(chosen: Any, values: Sequence[Any]) -> bool:
    return isinstance(chosen, str) and chosen not in values


def _plain(values):
    return {key: _scalar(value) for key, value in values.items()}


def _run_trial(study, trial, values, plan: Plan, stop: threading.Event) -> None:
    """One trial: a process of `gen_jax.main` in a folder of its own."""
    folder = plan.out / "trials" / trial.user_attrs["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    fields = as_tuples(values)
    command = [
        *plan.program, *plan.arguments, *search_space.as_flags(fields), f"--workdir={folder}"
    ]  # fmt: skip
    say(f"trial {trial.number}: {', '.join(f'{k}={v}' for k, v in values.items())}")
    # A trial outlives a sweep that was killed: let it end, and see what it has reached.
    while folder_lock.holder(folder) is not None and not stop.wait(_LOOK_EVERY):
        study._storage.record_heartbeat(trial._trial_id)
    with open(folder / "log.txt", "a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    pruned = False
    try:
        seen: set[int] = set()
        while process.poll() is None and not stop.is_set():
            # A heartbeat by hand: `study.optimize`, which has a thread for it, is not used.
            study._storage.record_heartbeat(trial._trial_id)
            if _report(trial, folder, plan, seen) and plan.prune and trial.should_prune():
                pruned = True
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_EVERY)
    finally:
        _end(process)
    if stop.is_set() and not pruned:
        study.tell(trial, state=TrialState.FAIL)  # without an error: it waits again
        return
    if pruned:
        study.tell(trial, state=TrialState.PRUNED)
        say(f"trial {trial.number}: stopped, worse than the median of the others")
        return
    report = folder / layout.REPORT
    value = layout.read_json(report, "numbers").get(plan.metric) if report.is_file() else None
    value = None if value is None else float(value)
    if process.returncode or value is None or math.isnan(value):
        trial.set_user_attr("error", _last_line(folder / "log.txt") or f"no {plan.metric}")
        study.tell(trial, state=TrialState.FAIL)
        say(f"trial {trial.number}: failed ({trial.user_attrs['error']}), see {folder}/log.txt")
        return
    study.tell(trial, value)
    say(f"trial {trial.number}: {plan.metric} = {value:.4f}")


def _report(trial, folder: pathlib.Path, plan: Plan, seen: set[int]) -> bool:
    """Tells the study what the trial's evaluations say; whether there was something new."""
    new = False
    for line in read_metrics(folder):
        if plan.metric in line and line["step"] not in seen:
            seen.add(line["step"])
            trial.report(line[plan.metric], line["step"])
            new = True
    return new


def _end(process: subprocess.Popen) -> None:
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(log: pathlib.Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
