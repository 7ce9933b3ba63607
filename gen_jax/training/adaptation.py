"""Low-rank adaptation in a run: what it begins with, and what of it is trained."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from gen_jax.common.errors import UserError
from gen_jax.runs import manifest, reader, sources
from gen_jax.tasks.base import Task
from gen_jax.tasks.lora import BASE, LowRank, LowRankTask, count, is_adapted


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """A stage that trains low-rank factors.

    Attributes:
      task: The stage.
      frozen: What the task reads beside the models that its stage works on.
      start: Variables of the base model that the run begins with and trains: the groups without
        factors, and the mutable collections.
      text: A line with the numbers of parameters that are trained and that stay as they are.
    """

    task: LowRankTask
    frozen: Mapping[str, Any]
    start: Mapping[str, Any]
    text: str


def check(config: ml_collections.ConfigDict) -> None:
    """Checks `config.lora`, as far as no model is needed.

    Raises:
      UserError: A value that does not fit, or factors without a model that they adapt.
    """
    lora = LowRank.of_run(config)
    if lora.match and not config.init_from:
        raise UserError(
            f"config.lora.match={lora.match!r} adapts a trained model, and config.init_from names "
            "none; name a run or package:NAME"
        )


def resolve(config: ml_collections.ConfigDict) -> None:
    """Makes the path of the base model absolute, in place: all readers of the run need it."""
    source = config.get("init_from", "")
    if LowRank.of_run(config).match:
        config.init_from = sources.absolute(source)


def adapt(
    config: ml_collections.ConfigDict,
    task: Task,
    init: reader.TrainedModel | None,
    workdir: pathlib.Path,
) -> Adaptation | None:
    """Wraps a stage, so that it trains low-rank factors of the model that the run begins with.

    Args:
      config: Of the run.
      task: The stage.
      init: The base model.
      workdir: The run directory.

    Returns:
      None if the config adapts nothing.

    Raises:
      UserError: The base model does not fit or has other weights than before, or the pattern
        matches nothing or no kernel.
    """
    lora = LowRank.of_run(config)
    if not lora.match or init is None:
        return None
    manifest.check_base(workdir, config.init_from, init.digest)
    adapted = LowRankTask(task, lora)
    base = adapted.base_of(init.variables, config.init_from)
    params, extra = init.variables["params"], init.variables.get("extra", {})
    start = {"params": {k: v for k, v in params.items() if k not in base}, "extra": extra}
    facts = _facts(adapted, base, config.init_from)
    if lora.base_dtype != "float32":
        dtype = jnp.dtype(lora.base_dtype)
        # Norms and biases are small, and what is left out of them costs more.
        base = jax.tree.map(lambda x: x.astype(dtype) if x.ndim >= 2 else x, base)
    return Adaptation(adapted, {BASE: base}, start, facts)


def _facts(task: LowRankTask, base: Mapping[str, Any], source: str) -> str:
    params, _ = jax.eval_shape(task.init_of_zeros, jax.random.key(0))
    factors = {group: tree for group, tree in params.items() if is_adapted(tree)}
    kernels = len(jax.tree.leaves(factors)) // 2
    return (
        f"low-rank factors of {kernels} kernels: {count(params):,} parameters are trained, the "
        f"{count(base):,} of {source} are frozen"
    )
