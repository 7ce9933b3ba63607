"""One stage from config to report: what it requires, data, training, evaluation, the table."""

import dataclasses
import difflib
import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from gen_jax import encoders
from gen_jax.common import app, files, pictures
from gen_jax.common import config as config_lib
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.progress import BatchProgress, in_words, say
from gen_jax.data.text import tokenizer_file
from gen_jax.evaluation import (
    Predictor,
    Result,
    build_evaluators,
    html_report,
    next_commands,
    run_all,
)
from gen_jax.parallel import distributed
from gen_jax.parallel.mesh import make_mesh
from gen_jax.runs import data as run_data
from gen_jax.runs import layout, lock, manifest, reader, text_tower, weights
from gen_jax.tasks import build_task
from gen_jax.training import checks, feature_data, logging, loop
from gen_jax.training.by_step import by_step

_FEW = 200  # training images, below which the report warns


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> int:
    """Trains what the config requires and then its own stage, or resumes where it stopped.

    Returns:
      The exit code: 0, also after SIGTERM with everything saved.

    Raises:
      UserError: a mistake in the config, the data or the place.
    """
    checks.check_config(config, workdir)
    began = time.monotonic()
    try:
        _run(config, workdir, began)
    except loop.Preempted as stop:
        say(f"SIGTERM: {stop}; the same command resumes {workdir}")
    return 0


def _run(config, workdir: pathlib.Path, began: float) -> None:
    config = _with_required(config, workdir)
    _compare(config, workdir)
    manifest.check(workdir)
    name = config.task.name
    mesh = make_mesh(config.mesh.to_dict())
    schedule = build(loop.Schedule, config.training.to_dict(), "config.training")
    schedule.check(mesh)
    frozen_models = reader.load_all_frozen(config, workdir)
    task = build_task(config.task.to_dict(), {k: m.task for k, m in frozen_models.items()})
    evaluators = build_evaluators(config.evaluators.to_dict(), name)
    trees, digests = _frozen(task, frozen_models)
    if changed := manifest.changed_weights(workdir, digests):
        raise UserError(
            f"{workdir} was trained on other weights of {changed[0]!r} until now; put those back, "
            "or name another --workdir"
        )
    init = reader.load(config.init_from) if config.init_from else None
    if init is not None:
        digests["init"] = init.digest
    tokenizer = text_tower.tokenizer(config.task.to_dict(), workdir)
    if tokenizer is None and _knows_words(init):
        # Words keep the numbers that the parameters know them by.
        tokenizer = tokenizer_file.load(init.path / layout.TOKENIZER)
    checks.check_length(task, config.data.max_length)
    # Of what was refused until here, a mistake in the config above all, nothing stays.
    if distributed.is_main():
        files.write_text(workdir / layout.CONFIG, config_lib.to_json(config) + "\n")
    data = run_data.open_data(config.data.to_dict(), workdir, schedule.seed, tokenizer)
    _check_vocabulary(task, data)
    warnings, notes = checks.check_data(config, data)
    for note in (*warnings, *notes):
        say(f"note: {note}")
    data = _with_features(data, task, workdir)
    frozen = _put_frozen(trees, mesh, config.sharding.rules)
    writer = logging.MetricWriter(workdir, tensorboard=config.tensorboard)
    if distributed.is_main():
        facts = manifest.run_manifest(
            config_lib.digest(config),
            schedule.seed,
            mesh.shape,
            data.facts(),
            digests,
        )
        layout.write_json(workdir / layout.MANIFEST, facts)

    latest = [Result({})]  # of the evaluations, whose numbers the report has

    def evaluate(variables: Mapping[str, Any], step: int, check) -> dict[str, float]:
        if evaluators:
            say(f"{name}: evaluating {', '.join(evaluators)} at step {step}...")
        with BatchProgress() as show:
            predict = Predictor(
                task, variables, frozen, mesh, seed=schedule.seed, check=check, show=show
            )
            result = run_all(evaluators, predict, data)
        for picture, image in result.pictures.items():
            writer.image(step, picture, image)
        latest[0] = _with_best(result, schedule.best_metric)
        return dict(result.metrics)

    train = loop.Run(
        name=name,
        task=task,
        schedule=schedule,
        optimizer=config.optimizer.to_dict(),
        mesh=mesh,
        rules=config.sharding.rules,
        workdir=workdir,
        batches=lambda start: data.batches(schedule.batch_size, start),
        keys=data.keys,
        frozen=frozen,
        evaluate=evaluate,
        meta={"data": data.facts()},
        writer=writer,
        init=None if init is None else (config.init_from, init.variables),
    )
    trained = loop.train(train)
    writer.close()
    if distributed.is_main():
        latest[0] = dataclasses.replace(
            latest[0], warnings=(*_about_data(data), *warnings, *latest[0].warnings)
        )
        commands = next_commands.of_run(
            config.to_dict(), task.predict_fns(), workdir, latest[0].prompts
        )
        _report(workdir, trained, latest[0], config, time.monotonic() - began, commands)


def _knows_words(init) -> bool:
    """Whether a run to begin with has a tokenizer, and read texts with it."""
    if init is None or not init.config.get("task", {}).get("text_encoder"):
        return False
    return (init.path / layout.TOKENIZER).is_file()


def _with_features(data: run_data.RunData, task, workdir: pathlib.Path) -> run_data.RunData:
    """Adds features to the data if the task is guided by some."""
    space = getattr(task, "features", None)
    if space is None:
        return data
    folder = feature_data.folder_of(data.folder, space, workdir)
    return data.with_features(folder, tuple(space.spec()))


def _with_required(config, workdir: pathlib.Path):
    """Trains what is required and not given, and puts it under `frozen`."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for name, needed in config.requires.items():
            if config.frozen.get(name):
                continue
            folder = layout.make(workdir / name)
            if not (folder / layout.DONE).is_file():
                say(f"{config.task.name} needs a {name}: training it into {folder}")
                with lock.held(folder):
                    _run(needed, folder, time.monotonic())
            config.frozen[name] = name
        for name, source in config.frozen.items():
            if not source.startswith("package:") and source != name:
                config.frozen[name] = str(pathlib.Path(source).absolute())
        text_tower.absolute(config.task)
    return config.lock()


def _compare(config, workdir: pathlib.Path) -> None:
    """Compares with the config.json of a run that has begun.

    Raises:
      UserError: the folder holds another run.
    """
    path = workdir / layout.CONFIG
    if path.exists():
        what = "the config of a run; put back a copy, or delete it to resume"
        was = layout.read_json(path, what)
        mine = json.loads(config_lib.to_json(config))
        # What may change between two starts of one run.
        for tree in (was, mine):
            for key in ("mesh", "sharding", "evaluators", "tensorboard", "requires"):
                tree.pop(key, None)
            for key in (
                "log_every", "eval_every", "checkpoint_every", "keep", "profile_steps",
                "best_metric", "best_mode",
            ):  # fmt: skip
                tree["training"].pop(key, None)
            for key in ("num_threads", "num_workers", "cache", "verify", "max_bad_records"):
                tree["data"].pop(key, None)
        if difference := _difference(was, mine):
            key, old, new = difference
            raise UserError(
                f"--workdir={workdir} holds a run with config.{key}={old!r}, this config has "
                f"{new!r}; name another folder, or give the old value to resume"
            )


def _difference(a: Any, b: Any, prefix: str = "") -> tuple[str, Any, Any] | None:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(set(a) | set(b)):
            if found := _difference(a.get(key), b.get(key), f"{prefix}{key}."):
                return found
        return None
    return None if a == b else (prefix.rstrip("."), a, b)


def _check_vocabulary(task, data) -> None:
    encoder = getattr(task, "text_encoder", None)
    if encoder is not None and data.vocab_size > encoder.vocab_size:
        raise UserError(
            f"config.data.vocab_size={data.vocab_size} must not exceed the text encoder's "
            f"vocab_size={encoder.vocab_size}"
        )


def _frozen(task, models) -> tuple[dict[str, Any], dict[str, str]]:
    """What is read and never trained, and its digests: other stages' models, and encoders."""
    trees = {k: m.task.as_frozen(m.variables) for k, m in models.items()}
    digests = {k: m.digest for k, m in models.items()}
    for name, spec in (task.towers() if hasattr(task, "towers") else {}).items():
        _, trees[name] = encoders.load(*encoders.parse(spec))
        digests[name] = weights.digest(trees[name])
    return trees, digests


def _put_frozen(trees, mesh, rules):
    from gen_jax.parallel import sharding

    where = sharding.shard_tree(trees, (*rules, (".*", "replicate")), mesh)
    return jax.tree.map(
        lambda x, w: jax.make_array_from_callback(x.shape, w, lambda i: x[i]),
        jax.tree.map(lambda x: jax.device_get(jax.numpy.asarray(x)), trees),
        where,
    )


def _with_best(result: Result, best_metric: str) -> Result:
    """Adds a warning if no evaluator measures what the best checkpoint is chosen by."""
    if not best_metric or best_metric in result.metrics:
        return result
    near = difflib.get_close_matches(best_metric, result.metrics, 1, cutoff=0.5)
    warning = (
        f"config.training.best_metric={best_metric} is not measured, so that no checkpoint counts "
        f"as the best" + (f"; did you mean {near[0]}?" if near else "")
    )
    return dataclasses.replace(result, warnings=(*result.warnings, warning))


def _about_data(data: run_data.RunData) -> tuple[str, ...]:
    """What is to be known of the data before any number."""
    count = data.info.num_records("train")
    if count >= _FEW:
        return ()
    return (
        f"the training split has {count} images: a model learns so few by heart; make crops of "
        "them (prepare --crops), and look for copies before you show its samples",
    )


def _report(
    workdir: pathlib.Path,
    trained: loop.Trained,
    result: Result,
    config,
    seconds: float,
    commands: Mapping[str, str],
) -> None:
    """Writes report.json, report.html, done.json and the plots, and prints the table."""
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
        f"{config.task.name}: {workdir.name}",
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
        commands=commands,
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
