"""The train state, and how it is born already sharded."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gen_jax.parallel import sharding
from gen_jax.tasks import base
from gen_jax.training import rngs


@flax.struct.dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
      step: int32 scalar, the number of steps taken.
      params: group -> parameters (f32).
      opt_state: group -> optimizer state.
      ema: group -> exponential moving average of the parameters, for the groups that keep one.
      extra: mutable collections of the task.
    """

    step: Any
    params: Any
    opt_state: Any
    ema: Any
    extra: Any

    def variables(self) -> dict[str, Any]:
        """What predict functions take: averaged parameters where there are some."""
        return {"params": {**self.params, **self.ema}, "extra": self.extra}


def zero_batch(spec: base.BatchSpec, batch_size: int) -> dict[str, jax.Array]:
    """A batch of zeros of the given spec."""
    return {k: jnp.zeros((batch_size, *s.shape), s.dtype) for k, s in spec.items()}


def _init_fn(task, optimizers: Mapping[str, optax.GradientTransformation], ema_groups):
    def init(rng: jax.Array) -> TrainState:
        params, extra = task.init(rng, zero_batch(task.batch_spec(), 1))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state={g: optimizers[g].init(params[g]) for g in task.losses()},
            # A copy: two donated arguments must not share a buffer.
            ema={g: jax.tree.map(jnp.copy, params[g]) for g in ema_groups},
            extra=extra,
        )

    return init


def abstract_state(task, optimizers, ema_groups, mesh: Mesh, rules: sharding.Rules) -> TrainState:
    """The state's shapes, dtypes and shardings without any array."""
    init = _init_fn(task, optimizers, tuple(ema_groups))
    shapes = jax.eval_shape(init, rngs.root_key(0))
    where = state_sharding(shapes, mesh, rules)
    return jax.tree.map(
        lambda s, w: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=w), shapes, where
    )


def state_sharding(shapes: TrainState, mesh: Mesh, rules: sharding.Rules) -> TrainState:
    """Shardings of a state: the rules for every collection alike (moments lie with parameters)."""
    replicated = sharding.replicated(mesh)
    return TrainState(
        step=replicated,
        params=sharding.shard_tree(shapes.params, rules, mesh),
        opt_state=sharding.shard_tree(shapes.opt_state, rules, mesh),
        ema=sharding.shard_tree(shapes.ema, rules, mesh),
        extra=jax.tree.map(lambda _: replicated, shapes.extra),
    )


def create_state(task, optimizers, ema_groups, mesh: Mesh, rules, seed: int) -> TrainState:
    """Fresh parameters and optimizer state, each array made where it will live.

    Raises:
      UserError: a parameter that no sharding rule matches.
    """
    abstract = abstract_state(task, optimizers, ema_groups, mesh, rules)
    out = jax.tree.map(lambda s: s.sharding, abstract)
    init = jax.jit(_init_fn(task, optimizers, tuple(ema_groups)), out_shardings=out)
    # It runs once: on a CPU, where optimising takes longer than running, spare the optimiser.
    cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0} if cpu else {}
    # The stream "init" is not one of the step's streams.
    key = jax.random.fold_in(rngs.root_key(seed), 0x1217)
    return init.lower(key).compile(compiler_options=options)(key)
