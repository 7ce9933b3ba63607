"""Drifting (arXiv 2602.04770): generated features move towards real ones and away from each other.

The field at a generated feature is a weighted mean of the real ones less one of the generated ones,
weights falling with distance. Training moves each feature a step along it: the target is the
feature plus the field, held fixed. Where both distributions are equal the field is nought.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gen_jax.losses.distances import squared

_FAR = 100.0  # in mean distances: a feature does not repel itself
_LEAST = 1e-3


def drifting(
    generated: Float[Array, "s n c"],
    real: Float[Array, "s m c"],
    others: Float[Array, "s k c"] | None = None,
    temperatures: Sequence[float] = (0.02, 0.05, 0.2),
    attracts: Bool[Array, "n m"] | None = None,
    repels: Bool[Array, "n n"] | None = None,
) -> tuple[Float[Array, " s"], Mapping[str, Any]]:
    """The loss of each set of features, to be averaged.

    Distances are in units of their own mean, so that temperatures are free of a feature's scale.
    The field of each temperature is brought to unit mean square, as in the paper: the loss is
    nearly constant, and `force`, before that, is what falls.

    Args:
      generated: features of n generated images, in s sets that do not see each other (a set is a
        place in a layer's grid, for example); gradients flow through these alone.
      real: features of m real images.
      others: of k images that repel too: generated earlier, or real ones of other classes.
      temperatures: of the weights' exponentials.
      attracts: which generated image each real one pulls, all where None: others are as if they
        were not there.
      repels: which generated ones push each other, all where None: those that are drawn from one
        and the same distribution, such as that of a prompt.

    Returns:
      the loss, and `force`, the mean square of the raw field over temperatures, [s].
    """
    x = jax.lax.stop_gradient(generated.astype(jnp.float32))
    repelling = x if others is None else jnp.concatenate([x, others.astype(jnp.float32)], 1)
    pool = jnp.concatenate([repelling, real.astype(jnp.float32)], 1)
    pool = jax.lax.stop_gradient(pool)
    distance = jnp.sqrt(jnp.maximum(squared(x, pool), 1e-8))
    there = jnp.ones(distance.shape[1:])
    if attracts is not None:
        there = there.at[:, repelling.shape[1] :].set(attracts)
    if repels is not None:
        there = there.at[:, : x.shape[1]].set(repels)
    scale = (distance * there[None]).sum((1, 2), keepdims=True) / there.sum()
    unit = jnp.maximum(scale / x.shape[-1] ** 0.5, _LEAST)  # coordinates then have order 1
    relative = distance / jnp.maximum(scale, _LEAST)
    apart = jnp.eye(x.shape[1], pool.shape[1]) + 1.0 - there
    relative = relative + _FAR * apart[None]
    x, pool = x / unit, pool / unit
    move, force = jnp.zeros_like(x), 0.0
    for temperature in temperatures:
        field = _field(relative / temperature, there, x, pool, repelling.shape[1])
        size = jnp.mean(jnp.square(field), (1, 2), keepdims=True)
        force = force + size[:, 0, 0] / len(temperatures)
        move = move + field * jax.lax.rsqrt(jnp.maximum(size, 1e-8))
    y = generated.astype(jnp.float32) / unit
    loss = jnp.mean(jnp.square(y - jax.lax.stop_gradient(x + move)), (1, 2))
    return loss, {"force": force}


def _field(energy, there, x, pool, negatives: int):
    """Towards the last rows of the pool and away from its first `negatives` ones."""
    # Of the softmax over what moves a feature and that over what a feature is moved by, the
    # geometric mean: no real feature is left without a follower.
    weights = jax.nn.softmax(-energy, -1) * jax.nn.softmax(-energy, -2)
    weights = jnp.sqrt(jnp.maximum(weights, 1e-6)) * there[None]
    away, towards = weights[..., :negatives], weights[..., negatives:]
    pull = towards * away.sum(-1, keepdims=True)
    push = away * towards.sum(-1, keepdims=True)
    weights = jnp.concatenate([-push, pull], -1)
    # Both parts weigh the same: the field of features does not depend on their origin.
    moved = jnp.matmul(weights, pool, precision=jax.lax.Precision.HIGHEST)
    return moved - weights.sum(-1, keepdims=True) * x
