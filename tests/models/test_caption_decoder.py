"""The caption decoder: causal, conditioned on its latents, and the same step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.models.caption_decoder import CaptionDecoder

MODEL = CaptionDecoder(vocab_size=20, max_length=6, hidden_size=16, num_layers=2, num_heads=2)
apply = jax.jit(MODEL.apply)


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, 20, (3, 6)), jnp.int32)
    latents = jnp.asarray(rng.normal(size=(3, 5, 8)), jnp.float32)
    params = jax.jit(MODEL.init)(jax.random.key(0), tokens, latents)
    return params, tokens, latents, apply(params, tokens, latents)


def test_a_token_depends_on_those_before_it_and_on_the_latents(made):
    params, tokens, latents, logits = made
    changed = apply(params, tokens.at[:, 3].add(1) % 20, latents)
    np.testing.assert_allclose(changed[:, :3], logits[:, :3], atol=1e-6)
    assert np.abs(changed[:, 3:] - logits[:, 3:]).max((1, 2)).min() > 1e-3
    other = apply(params, tokens, latents[::-1])
    assert np.abs(other - logits)[0].max(-1).min() > 1e-4  # at every place
    np.testing.assert_allclose(other[1], logits[1], atol=1e-6)


def test_steps_with_a_cache_are_the_whole(made):
    params, tokens, latents, logits = made
    cache = MODEL.empty_cache(3)
    step = jax.jit(lambda *args: MODEL.apply(params, *args, method="step"))
    for index in range(tokens.shape[1]):
        found, cache = step(tokens[:, index], jnp.int32(index), cache, latents)
        np.testing.assert_allclose(found, logits[:, index], atol=1e-5)


def test_heads_that_do_not_divide_the_width_are_named(made):
    _, tokens, latents, _ = made
    with pytest.raises(UserError, match="num_heads=3: does not divide hidden_size=16"):
        MODEL.clone(num_heads=3).init(jax.random.key(0), tokens, latents)
