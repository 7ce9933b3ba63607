"""Optimizers and schedules from config."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gen_jax.common import ranges
from gen_jax.common.errors import UserError
from gen_jax.models.layers.kernel_axes import row_axes
from gen_jax.parallel.sharding import path_name
from gen_jax.training import muon

DEFAULTS = dict(
    name="adamw",
    learning_rate=1e-3,
    schedule="cosine",  # constant, linear, cosine; each after `warmup_steps` of linear rise
    warmup_steps=100,
    end_factor=0.0,  # last learning rate as a share of the peak
    b1=0.9,
    b2=0.99,
    eps=1e-8,
    ns_steps=5,  # of muon: Newton-Schulz iterations a step
    weight_decay=0.0,
    no_decay=r"(bias|scale|norm|embedding)",  # paths that weight decay leaves alone
    freeze="",  # paths that are not trained
    clip_norm=1.0,  # 0: no clipping
)


_RANGES = {
    "learning_rate": ranges.POSITIVE,
    "warmup_steps": ranges.NOT_NEGATIVE,
    "end_factor": ranges.SHARE,
    "b1": ranges.BELOW_1,
    "b2": ranges.BELOW_1,
    "eps": ranges.POSITIVE,
    "ns_steps": ranges.AT_LEAST_1,
    "weight_decay": ranges.NOT_NEGATIVE,
    "clip_norm": ranges.NOT_NEGATIVE,
}


def complete(config: Mapping[str, Any], where: str = "config.optimizer") -> dict[str, Any]:
    """Returns `config` with the defaults filled in.

    Args:
      config: Values of one group's optimizer.
      where: The config key they stand under, for the message.

    Raises:
      UserError: An unknown key, a number out of its range, or a text that is no pattern.
    """
    if unknown := set(config) - set(DEFAULTS):
        raise UserError(
            f"{where}: unknown key {sorted(unknown)[0]!r}; known are {sorted(DEFAULTS)}"
        )
    values = {**DEFAULTS, **config}
    for name, allowed in _RANGES.items():
        ranges.check_range(values[name], allowed, f"{where}.{name}")
    for name in ("no_decay", "freeze"):
        try:
            re.compile(values[name])
        except re.error as error:
            raise UserError(f"{where}.{name}={values[name]!r} is no pattern: {error}") from error
    return values


def make_schedule(
    config: Mapping[str, Any], num_steps: int, where: str = "config.optimizer"
) -> Callable[[Any], jax.Array]:
    """Learning rate by step: warm-up, then constant, linear or cosine down to `end_factor`.

    Args:
      config: Values of one group's optimizer.
      num_steps: Steps in all.
      where: The config key they stand under, for messages.

    Raises:
      UserError: an unknown schedule.
    """
    c = complete(config, where)
    peak, end = c["learning_rate"], c["learning_rate"] * c["end_factor"]
    rest = max(1, num_steps - c["warmup_steps"])
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, end, rest),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest, alpha=c["end_factor"]),
    }
    if c["schedule"] not in after:
        raise UserError(f"{where}.schedule: {c['schedule']!r} is none of {sorted(after)}")
    if not c["warmup_steps"]:
        return after[c["schedule"]]()
    # Starts above zero, so that the first step is not lost.
    warmup = optax.linear_schedule(peak / (c["warmup_steps"] + 1), peak, c["warmup_steps"])
    return optax.join_schedules([warmup, after[c["schedule"]]()], [c["warmup_steps"]])


def make_optimizer(
    config: Mapping[str, Any], num_steps: int, where: str = "config.optimizer"
) -> optax.GradientTransformation:
    """Clipping, the optimizer, decoupled weight decay, the schedule, frozen paths.

    Names: `adamw` (arXiv 1711.05101), `adafactor` (arXiv 1804.04235), `lion` (arXiv 2302.06675),
    `muon` (arXiv 2502.16982: matrices by Muon at AdamW's scale, embeddings and vectors by AdamW).

    Args:
      config: Values of one group's optimizer.
      num_steps: Steps in all.
      where: The config key they stand under, for messages.

    Raises:
      UserError: an unknown key or name, or a number out of its range.
    """
    c = complete(config, where)
    no_decay, freeze = re.compile(c["no_decay"]), re.compile(c["freeze"])

    def decay_mask(params):
        return _by_path(params, lambda name: not no_decay.search(name))

    schedule = make_schedule(c, num_steps, where)
    if c["name"] == "adamw":
        core = optax.adamw(
            schedule, c["b1"], c["b2"], c["eps"], weight_decay=c["weight_decay"], mask=decay_mask
        )
    elif c["name"] == "lion":
        core = optax.lion(
            schedule, c["b1"], c["b2"], weight_decay=c["weight_decay"], mask=decay_mask
        )
    elif c["name"] == "adafactor":
        core = optax.adafactor(
            schedule,
            multiply_by_parameter_scale=False,
            weight_decay_rate=c["weight_decay"] or None,
            weight_decay_mask=decay_mask,
        )
    elif c["name"] == "muon":
        matrices = optax.chain(
            muon.scale_by_muon(_rows, ns_steps=c["ns_steps"]),
            optax.add_decayed_weights(c["weight_decay"], decay_mask),
            optax.scale_by_learning_rate(schedule),
        )
        others = optax.adamw(schedule, c["b1"], c["b2"], c["eps"], weight_decay=0.0, nesterov=True)
        core = optax.multi_transform(
            {"matrix": matrices, "other": others},
            lambda params: jax.tree.map(lambda n: "matrix" if n else "other", _rows(params)),
        )
    else:
        names = ["adafactor", "adamw", "lion", "muon"]
        raise UserError(f"{where}.name: {c['name']!r} is none of {names}")
    parts = [optax.clip_by_global_norm(c["clip_norm"])] if c["clip_norm"] else []
    chain = optax.chain(*parts, core)
    if not c["freeze"]:
        return chain
    # Frozen leaves have no moments and do not count towards the clipped norm.
    return optax.multi_transform(
        {"train": chain, "freeze": optax.set_to_zero()},
        lambda params: _by_path(params, lambda n: "freeze" if freeze.search(n) else "train"),
    )


def check_freeze(config: Mapping[str, Any], params: Any, where: str) -> None:
    """Raises UserError if `freeze` matches no parameter, so that all of them would be trained."""
    pattern = complete(config, where)["freeze"]
    names = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    if pattern and not any(re.search(pattern, name) for name in names):
        raise UserError(
            f"{where}.freeze={pattern!r} matches no parameter; they are called {names[0]}, "
            f"{names[-1]} and the like"
        )


def ema_decay(step: jax.Array, decay: float) -> jax.Array:
    """Decay that rises with the step, so that the average forgets the initial parameters."""
    step = step.astype(jnp.float32)
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def _rows(params):
    """How many leading axes of each kernel are a matrix's rows to Muon; 0 for what is none."""

    def one(path, leaf):
        name = path_name(path)
        if leaf.ndim < 2 or "embedding" in name.split("/")[-1]:
            return 0
        return row_axes(name, leaf.ndim)

    return jax.tree_util.tree_map_with_path(one, params)


def _by_path(tree, fn):
    return jax.tree_util.tree_map_with_path(lambda path, _: fn(path_name(path)), tree)
