"""What came out of a sweep: a table, a plot, and the best trial's config."""

import csv
import pathlib
import shutil
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from gen_jax.common import files
from gen_jax.runs import layout
from gen_jax.training.sweep import Plan

_WORDS = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def write(study: optuna.Study, plan: Plan) -> list[pathlib.Path]:
    """Writes table.csv, table.md, plot.png and best.json (what finished so far) into the folder.

    Returns:
      What was written.
    """
    rows = _rows(study, plan)
    done = [r for r in rows if r["state"] == _WORDS[TrialState.COMPLETE]]
    written = [plan.out / "table.csv", plan.out / "table.md"]
    keys = [d.key for d in plan.space]
    heads = ["trial", *keys, plan.metric, "state"]
    with files.replacing(written[0]) as temporary, open(temporary, "w", newline="") as f:
        table = csv.writer(f)
        table.writerow(heads)
        table.writerows([[r[h] for h in heads] for r in rows])
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(_text(r[h]) for h in heads)} |" for r in rows]
    files.write_text(written[1], "\n".join(lines) + "\n")
    if done:
        from gen_jax.common import pictures

        found = [r[plan.metric] for r in done]
        panels = {f"{plan.metric} by {k}": ([r[k] for r in done], found) for k in keys}
        pictures.plot_curves(plan.out / "plot.png", panels, "", points=True)
        best = plan.out / "trials" / done[0]["folder"] / layout.CONFIG
        shutil.copyfile(best, plan.out / "best.json")
        written += [plan.out / "plot.png", plan.out / "best.json"]
    return written


def _rows(study: optuna.Study, plan: Plan) -> list[dict[str, Any]]:
    """A row for each trial, the best first; those that were taken up again by another are left
    out.
    """
    trials = study.get_trials(deepcopy=False)
    replaced = {t.user_attrs.get("again_of") for t in trials}
    sign = -1.0 if plan.mode == "max" else 1.0

    def rank(trial: FrozenTrial):
        value = _value(trial)
        return (trial.state != TrialState.COMPLETE, value is None, sign * (value or 0.0))

    return [
        {
            "trial": t.number,
            **{d.key: t.params.get(d.key, "") for d in plan.space},
            plan.metric: _value(t),
            "state": _WORDS[t.state],
            "folder": t.user_attrs.get("folder", ""),
        }
        for t in sorted(trials, key=rank)
        if t.number not in replaced and t.state != TrialState.WAITING
    ]


def _value(trial: FrozenTrial) -> float | None:
    """Of a finished trial its own, of one that was stopped the last it reported."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    return trial.intermediate_values[max(trial.intermediate_values)] if (
        trial.intermediate_values) else None  # fmt: skip


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
