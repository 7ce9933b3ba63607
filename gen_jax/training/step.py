"""The train step: the only one."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from gen_jax.training import optim, rngs
from gen_jax.training.state import TrainState


def make_train_step(
    task,
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    accumulation_steps: int = 1,
    ema: float = 0.0,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Builds `step(state, batch, frozen, root_key) -> (state, metrics)`.

    Each parameter group is updated in the order of `task.losses()`, a later group seeing the
    earlier one's new parameters. A loss or gradient that is not finite leaves everything but
    the step count as it was, and sets the metric `nonfinite` to 1.

    Args:
      task: a `tasks.base.Task`.
      optimizers: one for each group.
      accumulation_steps: parts that the batch is worked through in; gradients are averaged.
      ema: decay of the moving average, 0 for none.
    """
    losses = task.losses()

    def train_step(state: TrainState, batch, frozen, root_key):
        params, opt_state, extra = dict(state.params), dict(state.opt_state), state.extra
        metrics, finite = {}, jnp.array(True)
        keys = rngs.stream_keys(root_key, task.rng_streams, state.step)
        for index, (group, loss_fn) in enumerate(losses.items()):
            # Groups draw apart from each other.
            group_keys = {n: jax.random.fold_in(k, index) for n, k in keys.items()}
            loss, grads, group_metrics, extra = _gradients(
                loss_fn, group, params, extra, batch, group_keys, frozen, accumulation_steps
            )
            norm = optax.global_norm(grads)
            finite &= jnp.isfinite(loss) & jnp.isfinite(norm)
            updates, opt_state[group] = optimizers[group].update(
                grads, opt_state[group], params[group]
            )
            params[group] = optax.apply_updates(params[group], updates)
            metrics |= {
                **group_metrics,
                f"{group}/loss": loss,
                f"{group}/grad_norm": norm,
            }
        new = TrainState(
            step=state.step,
            params=params,
            opt_state=opt_state,
            ema=_average(state, params, ema),
            extra=extra,
        )
        new = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, state)
        metrics["nonfinite"] = 1.0 - finite.astype(jnp.float32)
        return new.replace(step=state.step + 1), metrics

    return train_step


def _average(state: TrainState, params, decay: float):
    d = optim.ema_decay(state.step, decay)
    return {
        g: jax.tree.map(lambda e, p: e * d + p * (1.0 - d), old, params[g])
        for g, old in state.ema.items()
    }


def _gradients(loss_fn, group, params, extra, batch, keys, frozen, parts):
    """Loss, gradients, metrics and new extra, averaged over `parts` slices of the batch."""
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    if parts == 1:
        (loss, (metrics, extra)), grads = grad_fn(params[group], params, extra, batch, keys, frozen)
        return loss, grads, metrics, extra

    # Every parts-th example goes to the same slice: no row leaves its device.
    sliced = jax.tree.map(
        lambda x: x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch
    )

    def one(carry, inputs):
        grads, extra = carry
        index, part = inputs
        part_keys = {n: jax.random.fold_in(k, index) for n, k in keys.items()}
        (loss, (metrics, extra)), new = grad_fn(
            params[group], params, extra, part, part_keys, frozen
        )
        return (jax.tree.map(jnp.add, grads, new), extra), (loss, metrics)

    zeros = jax.tree.map(jnp.zeros_like, params[group])
    (grads, extra), (loss, metrics) = jax.lax.scan(one, (zeros, extra), (jnp.arange(parts), sliced))
    grads = jax.tree.map(lambda g: g / parts, grads)
    return loss.mean(), grads, jax.tree.map(lambda m: m.mean(0), metrics), extra
