"""A config with every field that can be set, whether its recipe states it or not."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from gen_jax.common.build import class_of
from gen_jax.common.fields import defaults_of, with_defaults
from gen_jax.evaluation import EVALUATORS
from gen_jax.tasks import TASKS
from gen_jax.tasks.lora import LowRank
from gen_jax.training.schedule import Schedule


def complete(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Fills in the defaults of the training, of the task with what is nested in it, and of the
    evaluators, in place.

    A name that does not exist is left for `training.checks` to report.

    Args:
      config: A recipe, or the config of a run.

    Returns:
      The same config.
    """
    with config.unlocked():
        if not config.get("lora"):
            config.lora = {}
        _add(config.lora, defaults_of(LowRank))
        if "training" in config:
            _add(config.training, defaults_of(Schedule))
        if "task" in config:
            _fill(config, "task", TASKS, config.task.get("name"))
        for name in config.get("evaluators", {}):
            _fill(config.evaluators, name, EVALUATORS, name)
            _add(config.evaluators[name], {"at_end": False})
        for required in config.get("requires", {}).values():
            complete(required)
    return config


def _fill(
    config: ml_collections.ConfigDict, key: str, table: Mapping[str, Any], name: str | None
) -> None:
    if name in table:
        _add(config[key], with_defaults(class_of(table, name, key), config[key].to_dict()))


def _add(config: ml_collections.ConfigDict, values: Mapping[str, Any]) -> None:
    """Adds the keys that are missing, at any depth."""
    for key, value in values.items():
        if key not in config:
            config[key] = value
        elif isinstance(config[key], ml_collections.ConfigDict):
            _add(config[key], value)
