"""The report of a run: report.json, report.html, done.json, plots, and a printed table."""

import dataclasses
import difflib
import pathlib
from collections.abc import Collection

import ml_collections

from gen_jax.common import app, pictures
from gen_jax.common import config as config_lib
from gen_jax.common.progress import in_words, say
from gen_jax.evaluation import Result, html_report, next_commands
from gen_jax.runs import data as run_data
from gen_jax.runs import layout
from gen_jax.training import logging
from gen_jax.training.by_step import by_step
from gen_jax.training.loop import Trained

_FEW = 200  # training images, below which the report warns


def with_best(result: Result, best_metric: str) -> Result:
    """Adds a warning if no evaluator measures what the best checkpoint is chosen by."""
    if not best_metric or best_metric in result.metrics:
        return result
    near = difflib.get_close_matches(best_metric, result.metrics, 1, cutoff=0.5)
    warning = (
        f"config.training.best_metric={best_metric} is not measured, so that no checkpoint counts "
        f"as the best" + (f"; did you mean {near[0]}?" if near else "")
    )
    return dataclasses.replace(result, warnings=(*result.warnings, warning))


def about_data(data: run_data.RunData) -> tuple[str, ...]:
    """What is to be known of the data before any number."""
    count = data.info.num_records("train")
    if count >= _FEW:
        return ()
    return (
        f"the training split has {count} images: a model memorizes so few; cut them into crops (an "
        "option of gen_jax.prepare), and look for copies before you show its samples",
    )


def write(
    workdir: pathlib.Path,
    trained: Trained,
    result: Result,
    config: ml_collections.ConfigDict,
    seconds: float,
    predict_fns: Collection[str],
) -> None:
    """Writes report.json, report.html, done.json and the plots, and prints the table.

    Args:
      workdir: The run directory.
      trained: What the training returned.
      result: The last evaluation.
      config: The resolved config.
      seconds: Time that the run took.
      predict_fns: Names of the task's predict functions, which decide what the run is used for.
    """
    lines = logging.read_metrics(workdir)
    curves = {}
    for key in ("model/loss", "model/grad_norm", "model/learning_rate", "images_per_second"):
        points = [(line["step"], line[key]) for line in lines if key in line]
        if points:
            curves[key] = tuple(zip(*points))
    if curves:
        pictures.plot_curves(workdir / "metrics.png", curves, "step")
    tables = []
    for group, found in by_step(lines, config.task.name).items():
        tables.append(workdir / f"{group}_by_step.png")
        pictures.plot_table(tables[-1], f"{group} by step", *found)
    metrics = trained.metrics
    layout.write_json(workdir / layout.REPORT, dict(metrics))
    steps = {"best": trained.best_step, "last": trained.last_step}
    layout.write_json(workdir / layout.DONE, {**steps, "seconds": round(seconds, 1)})

    sheets = sorted((workdir / layout.SAMPLES).glob(f"step_{steps['last'] or 0:07d}_*.png"))
    curves_file = workdir / "metrics.png"
    html_report.write(
        workdir / layout.HTML,
        f"{config.task.name}, run {workdir.name}",
        metrics,
        [*sheets, *tables, *([curves_file] if curves_file.exists() else [])],
        warnings=result.warnings,
        notes=result.notes,
        facts={
            "steps": str(steps["last"]),
            "minutes": f"{seconds / 60:.1f}",
            "data": config.data.dir or config.data.source,
        },
        meanings=result.meanings,
        prompts=result.prompts,
        commands=next_commands.of_run(config.to_dict(), predict_fns, workdir, result.prompts),
        trained_by=app.command_line(),
        config=config_lib.to_json(config),
    )
    for text in result.warnings:
        say(f"warning: {text}")
    width = max((len(k) for k in metrics), default=6)
    say(f"\n{'metric':<{width}}  value")
    for name, number in sorted(metrics.items()):
        say(f"{name:<{width}}  {number:.4f}")
    say(f"\ntook     {in_words(seconds)}")
    say(f"report   {workdir / layout.REPORT}")
    say(f"pages    {workdir / layout.HTML}")
    if curves_file.exists():
        say(f"curves   {curves_file}")
    for sheet in sheets:
        say(f"samples  {sheet}")
