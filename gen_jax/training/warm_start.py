"""Beginning from another run's parameters instead of from random ones."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.parallel.sharding import path_name
from gen_jax.tasks.lora import A, B
from gen_jax.training.state import TrainState


def take(
    state: TrainState,
    variables: Mapping[str, Any],
    where: str,
    inherited: Sequence[str] = (),
    required: str = "^$",
) -> tuple[TrainState, str]:
    """Puts every parameter of the same path and shape into a fresh state, and into its average.

    What has no counterpart stays as it was made: a new head, a level that was added.

    Args:
      state: of step 0.
      variables: "params", group -> tree of NumPy arrays, and "extra".
      where: what to call their source.
      inherited: collections of "extra" that belong to the parameters; each is taken whole, or not
        at all where one of its shapes differs.
      required: Pattern of "GROUP/PATH" and of collections that must be found.

    Returns:
      the state, and a line that says what was taken.

    Raises:
      UserError: nothing fits, or something that is required does not.
    """
    given = {
        (group, path_name(path)): leaf
        for group, tree in variables["params"].items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    taken, fresh = 0, []

    def one(group):
        def put(path, leaf):
            nonlocal taken
            if path_name(path).split("/")[-1] in (A, B):
                return leaf  # a low-rank factor, of which the source has the kernel
            found = given.get((group, path_name(path)))
            if found is None or found.shape != leaf.shape:
                fresh.append(f"{group}/{path_name(path)}")
                return leaf
            taken += 1
            return _like(leaf, found)

        return put

    started = {g: jax.tree_util.tree_map_with_path(one(g), t) for g, t in state.params.items()}
    if given and not taken:
        raise UserError(
            f"config.init_from={where}: none of its parameters has the path and shape of one of "
            "this stage's: name a run of the same architecture"
        )
    # Copies: the step donates both trees.
    ema = {g: jax.tree.map(lambda x: x.copy(), started[g]) for g in state.ema}
    extra, count = dict(state.extra), taken + len(fresh)
    for name in inherited:
        collection = variables.get("extra", {}).get(name)
        if collection is not None and _shapes(collection) == _shapes(extra[name]):
            extra[name] = jax.tree.map(_like, extra[name], collection)
        else:
            fresh.append(name)
    if lost := [name for name in fresh if re.search(required, name)]:
        raise UserError(
            f"config.init_from={where}: its {lost[0]} does not fit, and it is not trained here: "
            "give the arguments that the run was trained by"
        )
    text = f"took {taken} of {count} parameters from {where}"
    if not count:
        text = f"took {', '.join(name for name in inherited if name not in fresh)} from {where}"
    if fresh:
        text += f"; new are {', '.join(fresh[:3])}" + ("..." if len(fresh) > 3 else "")
    return state.replace(params=started, ema=ema, extra=extra), text


def put(state: TrainState, place: str, params: Any, name: str) -> TrainState:
    """Puts published weights into a fresh state, and into its average.

    Args:
      state: State of step 0.
      place: Where they belong in the parameters of the group "model".
      params: Tree of NumPy arrays; what the model does not have (a classifier) is left out.
      name: Name of the encoder and its weights, for messages.

    Raises:
      UserError: A parameter is missing or has another shape.
    """
    given = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}

    def one(path, leaf):
        value = given.get(path_name(path))
        if value is None or value.shape != leaf.shape:
            raise UserError(
                f"config.task.{place}={name}: has no {path_name(path)} of shape {leaf.shape}; name "
                "the weights of that encoder"
            )
        return _like(leaf, value)

    tree = jax.tree_util.tree_map_with_path(one, state.params["model"][place])
    groups = {**state.params, "model": {**state.params["model"], place: tree}}
    ema = dict(state.ema)
    if "model" in ema:
        # Copies: the step donates both trees.
        ema["model"] = {**ema["model"], place: jax.tree.map(lambda x: x.copy(), tree)}
    return state.replace(params=groups, ema=ema)


def _shapes(tree):
    return jax.tree_util.tree_structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]


def _like(leaf: jax.Array, given: np.ndarray) -> jax.Array:
    """`given`, of the dtype and where `leaf` is."""
    value = np.asarray(given, leaf.dtype)
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda i: value[i])
