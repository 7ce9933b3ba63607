"""Sampling of captions: temperature, nucleus (arXiv:1904.09751), penalty of repetition."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gen_jax.models.caption_decoder import CaptionDecoder


def sample_captions(
    decoder: CaptionDecoder,
    params: Any,
    latents: Float[Array, "b m d"],
    keys: jax.Array,
    *,
    bos_id: int,
    eos_id: int,
    pad_id: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
) -> Int[Array, "b n"]:
    """Draws a caption for each example, token by token.

    Args:
      decoder: The decoder.
      params: Its parameters.
      latents: What the captions describe.
      keys: Key of each example.
      bos_id: Token that captions begin with.
      eos_id: Token that ends a caption.
      pad_id: Token after the end.
      temperature: Divisor of the logits; 0 takes the most likely token.
      top_p: The smallest set of tokens with this probability is drawn from.
      repetition_penalty: Logits of tokens that the caption already has are divided by it if they
        are positive and multiplied by it otherwise, 1 for none (arXiv:1909.05858).

    Returns:
      `max_length` ids, the first of them `bos_id`.
    """
    count = len(latents)

    def step(carry, index):
        tokens, is_over, is_used, cache = carry
        logits, cache = decoder.apply(
            {"params": params}, tokens, index, cache, latents, method="step"
        )
        # Neither a second start nor padding is part of a caption.
        logits = logits.at[:, jnp.array([bos_id, pad_id])].set(-jnp.inf)
        penalized = jnp.where(logits > 0, logits / repetition_penalty, logits * repetition_penalty)
        logits = jnp.where(is_used, penalized, logits)
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        drawn = _draw(logits, step_keys, temperature, top_p)
        drawn = jnp.where(is_over, pad_id, drawn)
        is_used = is_used | (jnp.arange(logits.shape[-1])[None] == drawn[:, None])
        return (drawn, is_over | (drawn == eos_id), is_used, cache), drawn

    start = jnp.full((count,), bos_id, jnp.int32)
    is_used = jnp.zeros((count, decoder.vocab_size), bool)
    carry = (start, jnp.zeros((count,), bool), is_used, decoder.empty_cache(count))
    _, rest = jax.lax.scan(step, carry, jnp.arange(decoder.max_length - 1))
    return jnp.concatenate([start[:, None], rest.T], axis=1)


def _draw(
    logits: Float[Array, "b v"], keys: jax.Array, temperature: float, top_p: float
) -> Int[Array, " b"]:
    if temperature == 0.0:
        return logits.argmax(-1).astype(jnp.int32)
    kept = nucleus(logits / temperature, top_p)
    return jax.vmap(jax.random.categorical)(keys, kept).astype(jnp.int32)


def nucleus(logits: Float[Array, "b v"], top_p: float) -> Float[Array, "b v"]:
    """Returns logits that are -inf outside of the smallest set of probability `top_p`."""
    ordered = -jnp.sort(-jax.nn.softmax(logits), axis=-1)
    before = jnp.cumsum(ordered, axis=-1) - ordered
    least = jnp.where(before < top_p, ordered, jnp.inf).min(-1, keepdims=True)
    return jnp.where(jax.nn.softmax(logits) >= least, logits, -jnp.inf)
