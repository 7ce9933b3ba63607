"""One stage from config to report: resolve, check, build, claim, train, report."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from gen_jax import encoders
from gen_jax.common import config as config_lib
from gen_jax.common import files
from gen_jax.common.build import build as build_from
from gen_jax.common.errors import UserError
from gen_jax.common.progress import BatchProgress, say
from gen_jax.data.text.tokenizer import Tokenizer
from gen_jax.evaluation import Evaluator, Predictor, Result, build_evaluators, run_all
from gen_jax.parallel import distributed, sharding
from gen_jax.parallel.mesh import make_mesh
from gen_jax.runs import data as run_data
from gen_jax.runs import layout, lock, manifest, reader, sources, text_tower, weights
from gen_jax.tasks import build_task
from gen_jax.tasks.base import Task
from gen_jax.tasks.lora import RULES
from gen_jax.training import adaptation, checks, feature_data, logging, loop, report, resume
from gen_jax.training.cadence import Cadence


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> int:
    """Trains what the config requires and then its own stage, or resumes where it stopped.

    Args:
      config: The recipe.
      workdir: The run directory, whose lock is held.

    Returns:
      The exit code: 0, also after SIGTERM with everything saved.

    Raises:
      UserError: A mistake in the config, the data or the run directory.
    """
    checks.check_config(config, workdir)
    began = time.monotonic()
    try:
        _run(config, workdir, began)
    except loop.Preempted as stop:
        say(f"SIGTERM: {stop}; the same command resumes {workdir}")
    return 0


def _run(config: ml_collections.ConfigDict, workdir: pathlib.Path, began: float) -> None:
    config = resolve(config, workdir)
    check(config, workdir)
    stage = build(config, workdir)
    data, warnings = claim(stage)
    trained, result = train(stage, data)
    result = dataclasses.replace(result, warnings=(*warnings, *result.warnings))
    if distributed.is_main():
        seconds = time.monotonic() - began
        report.write(workdir, trained, result, config, seconds, stage.task.predict_fns())


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage that is built, before anything is written.

    Attributes:
      config: The resolved config.
      workdir: The run directory.
      mesh: The devices.
      schedule: Steps, batch and cadence.
      task: What is trained.
      evaluators: Name -> (prefix of its metrics, evaluator), of those that run at each evaluation.
      final_evaluators: The same of those that run at the last step only.
      frozen: Name -> parameters that are read and never trained.
      digests: Name -> SHA-256 of these parameters, and of `init`.
      init: Run whose parameters this one begins with, or None.
      pretrained: Place in the model's parameters -> name and parameters of an encoder that it
        begins with.
      lora: Low-rank adaptation of that run, or None.
      tokenizer: Tokenizer that is given, or None to train one.
    """

    config: ml_collections.ConfigDict
    workdir: pathlib.Path
    mesh: Mesh
    schedule: loop.Schedule
    task: Task
    evaluators: Mapping[str, tuple[str, Evaluator]]
    final_evaluators: Mapping[str, tuple[str, Evaluator]]
    frozen: Mapping[str, Any]
    digests: Mapping[str, str]
    init: reader.TrainedModel | None
    pretrained: Mapping[str, tuple[str, Any]]
    lora: adaptation.Adaptation | None
    tokenizer: Tokenizer | None


def resolve(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """Returns the config with all that it works on: trains required stages that are not given.

    Paths become absolute, so that the run can be read from any folder.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for name, required in config.requires.items():
            if config.frozen.get(name):
                continue
            folder = layout.make(workdir / name)
            if not (folder / layout.DONE).is_file():
                say(f"{config.task.name} needs a {name}: training it into {folder}")
                with lock.held(folder):
                    _run(required, folder, time.monotonic())
            config.frozen[name] = name
        for name, source in config.frozen.items():
            if source != name:
                config.frozen[name] = sources.absolute(source)
        text_tower.absolute(config.task)
        adaptation.resolve(config)
    return config.lock()


def check(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Raises UserError if the run directory holds another run, or one that is damaged."""
    resume.check_same_run(config, workdir)
    manifest.check(workdir)


def build(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Stage:
    """Builds the task on the models that it works on, and what is trained and measured with it.

    Raises:
      UserError: Something does not fit, or a frozen model has other weights than before.
    """
    mesh = make_mesh(config.mesh.to_dict())
    schedule = build_from(loop.Schedule, config.training.to_dict(), "config.training")
    schedule.check(mesh)
    models = reader.load_all_frozen(config, workdir)
    task = build_task(config.task.to_dict(), models.tasks)
    frozen, digests = _with_encoders(task, models)
    init = reader.load(config.init_from) if config.init_from else None
    tokenizer = models.tokenizer
    if tokenizer is None and init is not None and init.has_tokenizer:
        # Words keep the ids by which the parameters know them.
        tokenizer = init.tokenizer()
    if lora := adaptation.adapt(config, task, init, workdir):
        task, frozen = lora.task, {**frozen, **lora.frozen}
    pretrained = {}
    # A model that is adapted holds its encoders already.
    for place, spec in task.pretrained().items():
        pretrained[place] = (spec, encoders.load(*encoders.parse(spec))[1])
        digests[place] = weights.digest(pretrained[place][1])
    if changed := manifest.changed_weights(workdir, digests):
        raise UserError(
            f"{workdir} was trained on other weights of {changed[0]!r} until now; put those back, "
            "or name another folder"
        )
    if init is not None:
        digests["init"] = init.digest
    checks.check_inputs(task, config.data.to_dict())
    every, final = (
        build_evaluators(config.evaluators.to_dict(), config.task.name, at_end=at_end)
        for at_end in (False, True)
    )
    return Stage(
        config=config,
        workdir=workdir,
        mesh=mesh,
        schedule=schedule,
        task=task,
        evaluators=every,
        final_evaluators=final,
        frozen=frozen,
        digests=digests,
        init=init,
        pretrained=pretrained,
        lora=lora,
        tokenizer=tokenizer,
    )


def claim(stage: Stage) -> tuple[run_data.RunData, tuple[str, ...]]:
    """Writes the config and the manifest of the run, and opens and checks its data.

    Of a mistake that is found before, above all one in the config, nothing stays behind.

    Returns:
      The data, and warnings about them for the report.
    """
    config, workdir = stage.config, stage.workdir
    if distributed.is_main():
        files.write_text(workdir / layout.CONFIG, config_lib.to_json(config) + "\n")
    seed = stage.schedule.seed
    reads = stage.task.batch_spec()
    data = run_data.open_data(config.data.to_dict(), workdir, seed, reads, stage.tokenizer)
    _check_vocabulary(stage.task, data)
    warnings, notes = checks.check_data(config, data)
    for note in (*warnings, *notes):
        say(f"note: {note}")
    if (space := stage.task.feature_space) is not None:
        folder = feature_data.folder_of(data.folder, space, workdir)
        data = data.with_features(folder, tuple(space.spec()))
    if distributed.is_main():
        facts = manifest.run_manifest(
            config_lib.digest(config), seed, stage.mesh.shape, data.facts(), stage.digests
        )
        layout.write_json(workdir / layout.MANIFEST, facts)
    return data, (*report.about_data(data), *warnings)


def train(stage: Stage, data: run_data.RunData) -> tuple[loop.Trained, Result]:
    """Trains the stage, or what is left of it; returns the outcome and the last evaluation."""
    config, workdir, schedule = stage.config, stage.workdir, stage.schedule
    name = config.task.name
    rules = config.sharding.rules
    frozen = _on_devices(stage.frozen, stage.mesh, rules)
    if stage.lora is not None:
        say(f"{name}: {stage.lora.text}")
        rules = (*RULES, *rules)
    num_records = data.num_records("train")
    writer = logging.MetricWriter(
        workdir,
        tensorboard=config.tensorboard,
        steps_per_epoch=Cadence.of(schedule, num_records).steps_per_epoch,
    )
    latest = {}  # step of an evaluation -> its result, of which the report shows the last

    def evaluate(evaluators, variables: Mapping[str, Any], step: int, check) -> dict[str, float]:
        result, earlier = Result({}), latest.get(step, Result({}))
        if evaluators:
            say(f"{name}: evaluating {', '.join(evaluators)} at step {step}...")
            task, variables = stage.task.as_trained(variables, frozen)
            with BatchProgress() as show:
                predict = Predictor(
                    task, variables, frozen, stage.mesh, schedule.seed, check=check, show=show
                )
                result = run_all(evaluators, predict, data)
        for picture, image in result.pictures.items():
            writer.image(step, picture, image)
        latest.clear()
        latest[step] = earlier.joined(result)
        return dict(result.metrics)

    trained = loop.train(
        loop.Run(
            name=name,
            task=stage.task,
            schedule=schedule,
            optimizer=config.optimizer.to_dict(),
            mesh=stage.mesh,
            rules=rules,
            workdir=workdir,
            batches=lambda start: data.batches(schedule.batch_size, start),
            keys=data.keys,
            frozen=frozen,
            evaluate=functools.partial(evaluate, stage.evaluators),
            meta={"data": data.facts()},
            writer=writer,
            init=_start(stage),
            pretrained=stage.pretrained,
            num_records=num_records,
            evaluate_at_end=functools.partial(evaluate, stage.final_evaluators),
        )
    )
    writer.close()
    (result,) = latest.values()
    return trained, report.with_best(result, schedule.best_metric)


def _start(stage: Stage) -> tuple[str, Mapping[str, Any]] | None:
    """Returns name and variables of the run that the first state is taken from."""
    if stage.init is None:
        return None
    variables = stage.init.variables if stage.lora is None else stage.lora.start
    return (stage.config.init_from, variables) if jax.tree.leaves(variables) else None


def _check_vocabulary(task: Task, data: run_data.RunData) -> None:
    encoder = task.text_encoder
    if encoder is not None and data.vocab_size > encoder.vocab_size:
        raise UserError(
            f"config.data.vocab_size={data.vocab_size} must not exceed the text encoder's "
            f"vocab_size={encoder.vocab_size}"
        )


def _with_encoders(
    task: Task, models: reader.FrozenModels
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns parameters and digests of the frozen models and of the task's frozen encoders."""
    trees, digests = dict(models.trees), dict(models.digests)
    for name, spec in task.frozen_encoders().items():
        _, trees[name] = encoders.load(*encoders.parse(spec))
        digests[name] = weights.digest(trees[name])
    return trees, digests


def _on_devices(trees: Mapping[str, Any], mesh: Mesh, rules: sharding.Rules) -> Any:
    """Returns frozen parameters as global arrays; what no rule matches is replicated."""
    where = sharding.shard_tree(trees, (*rules, (".*", "replicate")), mesh)
    return jax.tree.map(
        lambda x, w: jax.make_array_from_callback(x.shape, w, lambda i: x[i]),
        jax.tree.map(lambda x: jax.device_get(jax.numpy.asarray(x)), trees),
        where,
    )
