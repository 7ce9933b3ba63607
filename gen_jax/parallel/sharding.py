"""Where each array lives: ordered `(regex, tactic)` rules over parameter paths.

Models carry no sharding. A rule's tactic is one of

* `replicate`: every device holds the whole array;
* `fsdp`: the largest dimension that the `fsdp` axis divides is split over it;
* `tensor(d)`: dimension `d` is split over the `tensor` axis, and what is left as by `fsdp`.
"""

import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gen_jax.common.errors import UserError

# Pairs of a pattern and a tactic; of no fixed type, for they come from a command line.
Rules = Any

# An array smaller than this is not worth splitting: the gather costs more than it saves.
MIN_SIZE_TO_SPLIT = 2**10

_TENSOR = re.compile(r"tensor\((-?\d+)\)$")


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """A batch is split along its first dimension over every data axis."""
    return NamedSharding(mesh, P(("replica", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, P())


def path_name(path: tuple[Any, ...]) -> str:
    """`params/unet/conv_in/kernel` for a path of `jax.tree_util`."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def shard_tree(tree: Any, rules: Rules, mesh: Mesh) -> Any:
    """A `NamedSharding` for each leaf of `tree` (arrays or `ShapeDtypeStruct`s).

    Scalars and one-element arrays are replicated without a rule.

    Raises:
      UserError: a leaf that no rule matches, or a rule that cannot be carried out.
    """
    compiled = _compiled(rules)

    def one(path, leaf):
        name = path_name(path)
        if leaf.size <= 1:
            return NamedSharding(mesh, P())
        for pattern, tactic in compiled:
            if pattern.search(name):
                return NamedSharding(mesh, _spec(name, tuple(leaf.shape), tactic, mesh))
        raise UserError(
            f"config.sharding.rules: no rule matches {name!r} of shape {tuple(leaf.shape)}; "
            "add one, for example ('.*', 'fsdp') as the last"
        )

    return jax.tree_util.tree_map_with_path(one, tree)


def _compiled(rules: Rules) -> list[tuple[re.Pattern, str]]:
    """The rules with their patterns read; a mistake in them is named."""
    try:
        return [(re.compile(pattern), tactic) for pattern, tactic in rules]
    except re.error as e:
        raise UserError(f"config.sharding.rules: {e.pattern!r} is no pattern: {e}") from e
    except (TypeError, ValueError) as e:
        raise UserError(
            f"config.sharding.rules={rules!r}: expected pairs of a regular expression and a "
            "tactic, for example (('.*', 'fsdp'),)"
        ) from e


def _spec(name: str, shape: tuple[int, ...], tactic: str, mesh: Mesh) -> P:
    if tactic == "replicate":
        return P()
    axes: list[str | None] = [None] * len(shape)
    if match := _TENSOR.match(tactic):
        dim, size = int(match.group(1)), mesh.shape["tensor"]
        # Factored optimizer moments have fewer dimensions than their parameter.
        in_range = -len(shape) <= dim < len(shape)
        if in_range and shape[dim] % size == 0 and size > 1:
            axes[dim % len(shape)] = "tensor"
        elif in_range and size > 1:
            raise UserError(
                f"config.sharding.rules: {name!r} of shape {shape} cannot be split by {tactic!r}: "
                f"the tensor axis has {size} devices; choose another dimension or 'fsdp'"
            )
    elif tactic != "fsdp":
        raise UserError(
            f"config.sharding.rules: unknown tactic {tactic!r} for {name!r}; "
            "the tactics are 'replicate', 'fsdp' and 'tensor(DIM)'"
        )
    size = mesh.shape["fsdp"]
    total = 1
    for s in shape:
        total *= s
    if size > 1 and total >= MIN_SIZE_TO_SPLIT:
        free = [d for d in range(len(shape)) if axes[d] is None and shape[d] % size == 0]
        if free:
            axes[max(free, key=lambda d: shape[d])] = "fsdp"
    return P(*axes)
