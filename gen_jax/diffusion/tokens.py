"""Sampling sequences of codes: many at once in few steps, or one after the other.

Each row draws from a key of its own, so that a picture does not depend on its batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

LogitsFn = Callable[[jax.Array], jax.Array]
"""Ids [b, n] to logits [b, n, k]."""


def cosine_schedule(time: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Share of the codes hidden at `time`, from 1 at 0 to 0 at 1 (arXiv 2202.04200, 3.2)."""
    return jnp.cos(0.5 * jnp.pi * time)


def hide(
    codes: Int[Array, "b n"], hidden_id: int, rng: jax.Array
) -> tuple[Int[Array, "b n"], Bool[Array, "b n"]]:
    """Hides a random share of each row, drawn along the cosine schedule; at least one.

    Returns:
      The row with `hidden_id` at the hidden places, and which those are.
    """
    share, order = jax.random.split(rng)
    count, length = codes.shape
    ratio = cosine_schedule(jax.random.uniform(share, (count,)))
    number = jnp.maximum(jnp.ceil(ratio * length), 1.0)
    rank = jax.random.uniform(order, codes.shape).argsort(-1).argsort(-1)
    hidden = rank < number[:, None]
    return jnp.where(hidden, hidden_id, codes), hidden


def parallel_decode(
    logits_fn: LogitsFn,
    keys: jax.Array,
    length: int,
    hidden_id: int,
    *,
    steps: int,
    temperature: float = 1.0,
    choice_temperature: float = 2.0,
) -> Int[Array, "b n"]:
    """Draws all codes at once, keeps the surest and hides the others again (MaskGIT, arXiv
    2202.04200, section 3.2).

    Args:
      logits_fn: of the bidirectional transformer.
      keys: one a row.
      length: codes of a row.
      hidden_id: the id that hides a code.
      steps: calls of `logits_fn`.
      temperature: of the codes drawn; 0 takes the likeliest.
      choice_temperature: of the noise on which ones are kept, falling to 0 at the end: without it
        the surest are kept, which are the dullest.
    """
    start = jnp.full((len(keys), length), hidden_id, jnp.int32)

    def step(ids, index):
        hidden = ids == hidden_id
        logits = logits_fn(ids)
        drawn_by, kept_by = _two(keys, index)
        noise = jax.vmap(lambda k: jax.random.gumbel(k, logits.shape[1:]))(drawn_by)
        drawn = (logits + temperature * noise).argmax(-1).astype(jnp.int32)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), drawn[..., None], -1)[..., 0]
        time = (index + 1.0) / steps
        jitter = jax.vmap(lambda k: jax.random.gumbel(k, (length,)))(kept_by)
        sure = log_p + choice_temperature * (1.0 - time) * jitter
        sure = jnp.where(hidden, sure, jnp.inf)
        # How many stay hidden: fewer each step by one at least, none after the last.
        left = hidden.sum(-1)
        number = jnp.minimum(jnp.floor(cosine_schedule(time) * length), left - 1.0)
        rank = sure.argsort(-1).argsort(-1)
        ids = jnp.where(hidden, drawn, ids)
        return jnp.where(rank < number[:, None], hidden_id, ids), None

    return jax.lax.scan(step, start, jnp.arange(steps))[0]


def ordered_decode(
    step_fn, cache, keys: jax.Array, length: int, begin_id: int, *, temperature: float = 1.0
) -> Int[Array, "b n"]:
    """Draws one code after the other.

    Args:
      step_fn: (ids [b], index, cache) -> (logits [b, k], cache), of the causal transformer.
      cache: an empty one.
      keys: one a row.
      length: codes of a row.
      begin_id: what stands before the first.
      temperature: of the codes drawn; 0 takes the likeliest.
    """

    def step(carry, index):
        ids, cache = carry
        logits, cache = step_fn(ids, index, cache)
        drawn_by, _ = _two(keys, index)
        noise = jax.vmap(lambda k: jax.random.gumbel(k, logits.shape[1:]))(drawn_by)
        ids = (logits + temperature * noise).argmax(-1).astype(jnp.int32)
        return (ids, cache), ids

    start = (jnp.full((len(keys),), begin_id, jnp.int32), cache)
    return jax.lax.scan(step, start, jnp.arange(length))[1].T


def _two(keys, index):
    """Two keys a row for one step."""
    pairs = jax.vmap(lambda k: jax.random.split(jax.random.fold_in(k, index)))(keys)
    return pairs[:, 0], pairs[:, 1]
