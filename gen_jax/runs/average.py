"""The mean of runs that began with one another: often better than each (arXiv 2203.05482)."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.parallel.sharding import path_name
from gen_jax.runs import weights
from gen_jax.runs.reader import TrainedModel


def mean(models: Sequence[TrainedModel]) -> TrainedModel:
    """The first model, its parameters the mean over all.

    Args:
      models: of one architecture, from one start: those of other starts mean nothing together.

    Raises:
      UserError: another architecture; the first parameter that differs is named.
    """
    first, *others = models
    shapes = _shapes(first)
    for other in others:
        theirs = _shapes(other)
        for name in sorted(set(shapes) | set(theirs)):
            if shapes.get(name) != theirs.get(name):
                raise UserError(
                    f"average={other.path}: parameter {name} is {_said(theirs.get(name))}, of "
                    f"{first.path} {_said(shapes.get(name))}; only runs of one architecture have "
                    "a mean"
                )
    trees = [model.variables["params"] for model in models]
    params = jax.tree.map(lambda *x: np.mean(np.stack(x), 0, dtype=np.float32), *trees)
    variables = {**first.variables, "params": params}
    digests = tuple(model.digest for model in models)
    return dataclasses.replace(
        first,
        variables=variables,
        digest=weights.digest(variables),
        mean_of=digests,
        lora=None,  # a mean of merged parameters has no factors
    )


def _shapes(model: TrainedModel) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(model.variables["params"])
    return {path_name(path): np.shape(leaf) for path, leaf in leaves}


def _said(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else str(list(shape))
