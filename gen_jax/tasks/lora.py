"""Low-rank adaptation of any stage (LoRA, arXiv:2106.09685).

The kernels of a trained model stay as they are. Of each kernel W [rows, cols] that a pattern
matches, two factors A [rows, rank] and B [rank, cols] are trained, and the model works with
W + (alpha / rank) * A @ B. A convolution's kernel [h, w, in, out] counts as [h * w * in, out]. B
begins with zeros, so that the outputs of step 0 are those of the trained model.

`LowRankTask` wraps the task of a stage. Its parameters are a tree of factors, and the kernels stand
in `frozen`, outside of optimizer, average and checkpoint.
"""

import dataclasses
import functools
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from gen_jax.common import ranges
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.models.layers.kernel_axes import row_axes
from gen_jax.models.layers.patch_conv import TORCH_INIT
from gen_jax.parallel.sharding import path_name
from gen_jax.tasks.base import Extra, Frozen, Params, Task, Variables

A, B = "lora_A", "lora_B"

BASE = "lora_base"
"""Name in `frozen` of the parameters that the factors adapt."""

DTYPES = ("float32", "bfloat16")
"""Types in which a training may hold the model that it adapts."""

RULES = ((rf"/({A}|{B})$", "replicate"),)
"""Sharding rules of the factors, which are small: they stand before the rules of a config."""


@dataclasses.dataclass(frozen=True)
class LowRank:
    """What is adapted, and by how much.

    Attributes:
      match: Pattern of "GROUP/PATH" of the kernels that get factors; "" for no adaptation.
      rank: Columns of A and rows of B.
      alpha: The product of the factors is multiplied by alpha / rank.
      base_dtype: Type in which the training holds the adapted model: "bfloat16" takes half the
        memory. Readers merge the factors into the model's own weights.
    """

    match: str = ""
    rank: int = 8
    alpha: float = 8.0
    base_dtype: str = "float32"

    @classmethod
    def of_run(cls, config: ml_collections.ConfigDict) -> "LowRank":
        """Builds it from `lora` in the config of a run; earlier versions did not have the key.

        Raises:
          UserError: An unknown key, a number out of its range, or a text that is no pattern.
        """
        lora = build(cls, config.to_dict().get("lora") or {}, "config.lora")
        allowed = {"rank": ranges.AT_LEAST_1, "alpha": ranges.POSITIVE}
        ranges.check_fields(lora, allowed, "config.lora")
        if lora.base_dtype not in DTYPES:
            raise UserError(
                f"config.lora.base_dtype={lora.base_dtype!r}: expected {' or '.join(DTYPES)}"
            )
        try:
            re.compile(lora.match)
        except (re.error, TypeError) as error:
            raise UserError(f"config.lora.match={lora.match!r} is no pattern: {error}") from error
        return lora

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return self.alpha / self.rank

    def factors(self, params: Params, rng: jax.Array) -> dict[str, Any]:
        """Returns fresh factors: A is uniform within 1 / sqrt(rows), B is zero.

        Args:
          params: Group -> parameters, arrays or their shapes.
          rng: Key. The factors of a kernel depend on its path, not on what else is matched.

        Raises:
          UserError: The pattern matches nothing, or a parameter that is no kernel.
        """
        made = _mapped(params, functools.partial(self._factors_of, rng))
        if not made:
            names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
            raise UserError(
                f"config.lora.match={self.match!r} matches no parameter; they are called "
                f"{names[0]}, {names[-1]} and the like"
            )
        return made

    def _factors_of(self, rng: jax.Array, name: str, leaf: Any) -> dict[str, jax.Array] | None:
        if not re.search(self.match, name):
            return None
        if name.split("/")[-1] != "kernel" or leaf.ndim < 2:
            raise UserError(
                f"config.lora.match={self.match!r} matches {name} of shape {list(leaf.shape)}, "
                "and only kernels of two dimensions or more have low-rank factors; end the "
                "pattern with /kernel$"
            )
        split = row_axes(name, leaf.ndim)
        rows, cols = int(np.prod(leaf.shape[:split])), int(np.prod(leaf.shape[split:]))
        key = jax.random.fold_in(rng, zlib.crc32(name.encode()))
        return {
            A: TORCH_INIT(key, (rows, self.rank), jnp.float32),
            B: jnp.zeros((self.rank, cols), jnp.float32),
        }


def is_adapted(tree: Any) -> bool:
    """Returns whether the parameters of a group are low-rank factors."""
    if not isinstance(tree, Mapping):
        return False
    return A in tree or any(is_adapted(branch) for branch in tree.values())


def count(tree: Any) -> int:
    """Returns the number of elements of all arrays in a tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def merged(params: Params, base: Params, scale: float) -> dict[str, Any]:
    """Returns parameters with W + scale * A @ B in the place of each kernel W that has factors.

    Args:
      params: Group -> factors; a group that is not adapted has its parameters.
      base: Group -> parameters that the factors adapt, of the adapted groups at least.
      scale: Multiplies the product of the factors.

    Raises:
      UserError: A kernel is missing in `base` or has another shape.
    """
    # The factors are small, and what all readers of a run compute from them has to agree.
    with jax.default_matmul_precision("highest"):
        return {
            group: _merged(tree, base.get(group), scale, group) if is_adapted(tree) else tree
            for group, tree in params.items()
        }


def _merged(factors: Mapping[str, Any], base: Any, scale: float, name: str) -> Any:
    if A in factors:
        a, b = factors[A], factors[B]
        if base is None or isinstance(base, Mapping) or a.shape[0] * b.shape[1] != base.size:
            raise UserError(f"{name}: the low-rank factors fit no kernel of the model they adapt")
        # In float32: half precision would round most of a small change away.
        return base.astype(a.dtype) + (scale * (a @ b)).reshape(base.shape)
    tree = dict(base) if isinstance(base, Mapping) else {}
    for key, branch in factors.items():
        tree[key] = _merged(branch, tree.get(key), scale, f"{name}/{key}")
    return tree


def _mapped(tree: Mapping[str, Any], fn: Callable[[str, Any], Any], prefix: str = "") -> Any:
    """Returns the tree of what `fn(name, leaf)` gives, without the leaves for which it is None."""
    out = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        new = _mapped(value, fn, f"{name}/") if isinstance(value, Mapping) else fn(name, value)
        if new:
            out[key] = new
    return out


@dataclasses.dataclass(frozen=True)
class LowRankTask(Task):
    """A stage whose kernels are adapted by low-rank factors, which alone are trained.

    A parameter group in which the pattern matches nothing, such as a discriminator's, is trained as
    it is. Mutable collections are the wrapped task's.

    Attributes:
      task: The stage.
      lora: What is adapted.
    """

    task: Task
    lora: LowRank

    @property
    def rng_streams(self):
        return self.task.rng_streams

    @property
    def pipeline(self):
        return self.task.pipeline

    @property
    def is_refiner(self):
        return self.task.is_refiner

    @property
    def text_encoder(self):
        return self.task.text_encoder

    @property
    def feature_space(self):
        return self.task.feature_space

    @property
    def inherited(self):
        # The outputs depend on all of them: latent statistics, codebooks, fading.
        return tuple(self._shapes[1])

    @property
    def required(self):
        # Collections have no "/" in their names. Parameters are compared in `base_of`.
        return rf"^({'|'.join(map(re.escape, self.task.inherited))})$"

    def batch_spec(self):
        return self.task.batch_spec()

    def init(self, rng, batch):
        init_key, factor_key = jax.random.split(rng)
        params, extra = self.task.init(init_key, batch)
        return {**params, **self.lora.factors(params, factor_key)}, extra

    def init_of_zeros(self, rng: jax.Array) -> tuple[Params, Extra]:
        """Returns what `init` does of one example of zeros."""
        return self.init(rng, _zeros(self.task))

    def losses(self):
        return {group: self._adapted(group, fn) for group, fn in self.task.losses().items()}

    def predict_fns(self):
        return {name: self._predicting(fn) for name, fn in self.task.predict_fns().items()}

    def predict_spec(self):
        return self.task.predict_spec()

    def frozen_encoders(self):
        return self.task.frozen_encoders()

    def as_frozen(self, variables):
        """Refuses: a stage that works on this one gets the merged parameters from a reader."""
        raise NotImplementedError("merge the factors first, see as_trained")

    def as_trained(self, variables, frozen):
        params = jax.jit(merged, static_argnums=2)(
            variables["params"], frozen[BASE], self.lora.scale
        )
        return self.task, {**variables, "params": params}

    def components(self, variables, frozen):
        return self.task.components(self._merged_variables(variables, frozen), frozen)

    def as_released(self, variables, frozen):
        return self.task.as_released(self._merged_variables(variables, frozen), frozen)

    def base_of(self, variables: Variables, source: str) -> dict[str, Any]:
        """Returns what the factors adapt: group -> parameters of the trained model.

        Args:
          variables: Of the trained model.
          source: Where the model was read from, for the message.

        Raises:
          UserError: The pattern matches nothing or no kernel, or a parameter of an adapted group
            is missing, unexpected or of another shape than this stage's.
        """
        shapes, _ = self._shapes
        base = {}
        for group in jax.eval_shape(lambda key: self.lora.factors(shapes, key), jax.random.key(0)):
            needed = _shapes_by_name(shapes[group], group)
            given = _shapes_by_name(variables["params"].get(group, {}), group)
            for name in sorted(needed.keys() | given.keys()):
                if needed.get(name) != given.get(name):
                    theirs, ours = (_shape_or_none(x.get(name)) for x in (given, needed))
                    raise UserError(
                        f"config.init_from={source}: its {name} is {theirs}, of this stage {ours}; "
                        "low-rank factors adapt a model of the same architecture"
                    )
            base[group] = variables["params"][group]
        return base

    @property
    def _shapes(self) -> tuple[Any, Any]:
        return _init_shapes(self.task)

    def _adapted(self, group: str, loss_fn):
        def loss(params, everything, extra, batch, rngs, frozen):
            # Gradients flow through the first argument alone, as in the stage itself.
            everything = {**everything, group: params}
            everything = merged(everything, frozen[BASE], self.lora.scale)
            own, everything = everything[group], jax.lax.stop_gradient(everything)
            return loss_fn(own, everything, extra, batch, rngs, frozen)

        return loss

    def _predicting(self, predict_fn):
        def predict(variables, batch, rngs, frozen):
            return predict_fn(self._merged_variables(variables, frozen), batch, rngs, frozen)

        return predict

    def _merged_variables(self, variables: Variables, frozen: Frozen) -> dict[str, Any]:
        params = merged(variables["params"], frozen[BASE], self.lora.scale)
        return {**variables, "params": params}


@functools.lru_cache
def _init_shapes(task: Task) -> tuple[Any, Any]:
    """Returns shapes of a stage's parameters and mutable collections."""
    return jax.eval_shape(lambda key: task.init(key, _zeros(task)), jax.random.key(0))


def _zeros(task: Task) -> dict[str, jax.Array]:
    return {k: jnp.zeros((1, *s.shape), s.dtype) for k, s in task.batch_spec().items()}


def _shapes_by_name(tree: Any, group: str) -> dict[str, list[int]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {f"{group}/{path_name(path)}": list(np.shape(leaf)) for path, leaf in leaves}


def _shape_or_none(shape: list[int] | None) -> str:
    return "not there" if shape is None else str(shape)
