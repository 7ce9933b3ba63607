"""Checks of a config before data are prepared, a stage is trained or a program is compiled."""

import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import ml_collections

from gen_jax import evaluation
from gen_jax.common import ranges
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.progress import say
from gen_jax.data.load.transforms import TRANSFORMS, WHERE
from gen_jax.evaluation import Evaluator, build_evaluators, meanings
from gen_jax.parallel.mesh import make_mesh
from gen_jax.runs import reader, text_tower
from gen_jax.runs.data import DataConfig
from gen_jax.runs.splits import DataSplits
from gen_jax.tasks import build_task
from gen_jax.training import adaptation, optim
from gen_jax.training.cadence import Cadence
from gen_jax.training.schedule import Schedule

_KEYS = {
    "task", "data", "training", "optimizer", "mesh", "sharding", "evaluators", "frozen",
    "requires", "init_from", "lora", "tensorboard",
}  # fmt: skip

# Pattern of a key in `config.task` -> range of its numbers, whatever stage they belong to.
_TASK_RANGES = {
    re.compile(pattern): allowed
    for pattern, allowed in {
        r"dropout$|_prob$|_share$|^drop_|^mask_ratio$|^guidance_rescale$": ranges.SHARE,
        r"^decay$|^label_smoothing$": ranges.BELOW_1,
        r"_weight$|temperature$|^guidance_scale$|^beta$": ranges.NOT_NEGATIVE,
        r"_start$|_warmup$|_steps$|_layers$|^num_": ranges.NOT_NEGATIVE,
        # 0 of VQVAE.head_channels is a decoder without that head, 0 of a bank's size no bank, 0 of
        # LDMTask.layout_channels no map of the text.
        r"(^|_)((?<!bank_)size|heads|dim|length|width|depth)$": ranges.AT_LEAST_1,
        r"(^|_)(?<!^head_)(?<!^spatial_)(?<!^layout_)channels$": ranges.AT_LEAST_1,
        r"^layout_channels$": ranges.NOT_NEGATIVE,
        r"^num_(inference_steps|codes|heads|train_timesteps)$|_every$": ranges.AT_LEAST_1,
    }.items()
}


def check_config(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Checks a config and those that it requires, as far as no data and no device is needed.

    Args:
      config: Of a run.
      workdir: The run directory, which relative paths count from.

    Raises:
      UserError: An unknown key, a number that is not finite or out of its range, an unknown name,
        a metric that is not measured, or a model, data set or vocabulary that is not there.
    """
    if unknown := sorted(set(config) - _KEYS):
        raise UserError(f"config: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    values = config.to_dict()
    _check_numbers(values)
    build(Schedule, values["training"], "config.training").check(make_mesh(values["mesh"]))
    for group, optimizer in values["optimizer"].items():
        optim.make_optimizer(optimizer, 1, f"config.optimizer.{group}")
    evaluators = build_evaluators(values["evaluators"], config.task.name)
    _check_best_metric(values["training"].get("best_metric", ""), evaluators)
    _check_patience(values)
    adaptation.check(config)
    _check_sources(config, workdir)
    data = DataConfig.of(values["data"])
    if data.dir:  # of an embedded source, once it is prepared
        # The whole shards are read later, if at all.
        verify = "none" if data.verify == "none" else "size"
        check_data(config, DataSplits(pathlib.Path(data.dir), verify))
    required = {k: v for k, v in config.requires.items() if not config.frozen.get(k)}
    for name, needed in required.items():
        check_config(needed, workdir / name)
    if required:
        _check_task(config, required)


def _check_best_metric(metric: str, evaluators: Mapping[str, tuple[str, Evaluator]]) -> None:
    """Looks whether any evaluator can measure what the best checkpoint is chosen by.

    Which metrics an evaluator has depends on its data and its encoders, so that a name that may be
    wrong is a warning here and is compared with what was measured in the report.

    Raises:
      UserError: No evaluator's metrics begin as the name does.
    """
    if not metric or not evaluators:
        return
    where = f"config.training.best_metric={metric}"
    candidates = {
        evaluator: metric.removeprefix(f"{prefix}/")
        for evaluator, (prefix, _) in evaluators.items()
        if metric.startswith(f"{prefix}/")
    }
    if not candidates:
        prefixes = dict.fromkeys(f"{prefix}/" for prefix, _ in evaluators.values())
        raise UserError(
            f"{where}: expected a metric of {', '.join(evaluators)}, whose names begin with "
            f"{' or '.join(prefixes)}"
        )
    if not any(meanings.of(evaluator, name) for evaluator, name in candidates.items()):
        say(f"warning: {where} is not a known metric of {', '.join(candidates)}")


def _check_patience(values: Mapping[str, Any]) -> None:
    """Raises UserError if early stopping counts a metric that is measured at the last step only."""
    training = values["training"]
    if not training.get("patience") or not values["evaluators"]:
        return
    metric = training["best_metric"]
    every = build_evaluators(values["evaluators"], values["task"]["name"], at_end=False)
    if not any(metric.startswith(f"{prefix}/") for prefix, _ in every.values()):
        raise UserError(
            f"config.training.patience={training['patience']} needs best_metric={metric} at each "
            "evaluation, but its evaluator has at_end=True"
        )


def _check_task(config: ml_collections.ConfigDict, required: Mapping[str, Any]) -> None:
    """Builds the task on those that are trained first, so that its mistakes do not come after."""
    others = [source for name, source in config.frozen.items() if name not in required and source]
    if others or text_tower.is_frozen(config.task) or any(c.requires for c in required.values()):
        return  # it also works on weights, which are read when it is built for training
    tasks = {name: build_task(needed.task.to_dict()) for name, needed in required.items()}
    check_inputs(build_task(config.task.to_dict(), tasks), config.data.to_dict())


def check_inputs(task: Any, data: Mapping[str, Any]) -> None:
    """Checks whether the data's transform gives what a task reads.

    Args:
      task: The task.
      data: `config.data`.

    Raises:
      UserError: A key is missing, or texts have another length.
    """
    spec, data = task.batch_spec(), DataConfig.of(data)
    if "tokens" in spec and data.max_length != spec["tokens"].shape[0]:
        raise UserError(
            f"config.data.max_length={data.max_length} and config.task.text_encoder.max_length="
            f"{spec['tokens'].shape[0]} must be the same"
        )
    missing = sorted(set(spec) - set(data.transform.keys(has_tokens=True)))
    # Which features the records have is known once the data is open.
    if missing and not data.transform.takes_features:
        fitting = [n for n, t in TRANSFORMS.items() if set(spec) <= set(t.keys(has_tokens=True))]
        fitting = fitting or [n for n, t in TRANSFORMS.items() if t.takes_features]
        raise UserError(
            f"{WHERE}.name={data.transform.name!r} does not give {missing[0]!r}, which the task "
            f"reads; use {' or '.join(fitting)}"
        )


def _check_numbers(values: Mapping[str, Any]) -> None:
    own = {key: value for key, value in values.items() if key != "requires"}
    for name, number in ranges.numbers_in(own):
        where = f"config.{name}"
        if not math.isfinite(number):
            raise UserError(f"{where}={number}: expected a finite number")
        key = name.split(".")[-1]
        for pattern, allowed in _TASK_RANGES.items() if name.startswith("task.") else ():
            if pattern.search(key):
                ranges.check_range(number, allowed, where)


def _check_sources(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Looks for the models and the vocabulary that the run begins with."""
    sources = {f"frozen.{name}": source for name, source in config.frozen.items()}
    for key, source in (sources | {"init_from": config.init_from}).items():
        # A frozen model of its own name is a part of this run.
        if source and key != f"frozen.{source}":
            try:
                reader.resolve(source)
            except UserError as error:
                raise UserError(f"config.{key}: {error}") from error
    text_tower.tokenizer(config.task.to_dict(), workdir)


def check_data(
    config: ml_collections.ConfigDict, data: DataSplits
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Looks whether training and evaluation will find what they read.

    Args:
      config: Of a run.
      data: Its data.

    Returns:
      Warnings, on records without the captions that a stage learns from, which belong into the
      report, and notes, on splits with fewer images than evaluators would read.

    Raises:
      UserError: No split, no caption where they are learned from, a damaged shard, or an interval
        in epochs that is shorter than a step.
    """
    data.check_split("train")
    schedule = build(Schedule, config.training.to_dict(), "config.training")
    Cadence.of(schedule, data.num_records("train"))
    evaluators = build_evaluators(config.evaluators.to_dict(), config.task.name)
    return _check_captions(config, data), evaluation.check_data(evaluators, data)


def _check_captions(config: ml_collections.ConfigDict, data: DataSplits) -> tuple[str, ...]:
    reads = DataConfig.of(config.data.to_dict()).transform.reads_captions
    missing = data.num_without_caption("train")
    if not (config.task.get("text_encoder") and reads and missing):
        return ()
    total = data.num_records("train")
    if missing == total:
        raise UserError(
            f"{data.folder}: none of the {total} training records has a caption, and this stage "
            "learns from captions; write captions.jsonl beside the images (docs/data-formats.md) "
            "and prepare them again"
        )
    return (
        f"{data.folder}: {missing} of the {total} training records have no caption and count as "
        "the empty text",
    )
