"""The transformer over codes: what it may see, its cache, and text that starts unheard."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.models.token_transformer import CodeEmbedding, TokenTransformer

K, GRID, B = 11, (3, 2, 2), 2
N = 12


def made(is_causal, **fields):
    """A module with parameters that are nowhere zero, and its inputs."""
    module = TokenTransformer(
        K, GRID, hidden_size=16, num_layers=2, num_heads=2, is_causal=is_causal, **fields
    )
    rng = np.random.default_rng(0)
    ids = jnp.asarray(rng.integers(0, K, (B, N)), jnp.int32)
    text = jnp.asarray(rng.standard_normal((B, 4, 8)), jnp.float32)
    mask = jnp.asarray([[True] * 4, [True, True, False, False]])
    shapes = jax.eval_shape(module.init, jax.random.key(0), ids, text, mask)["params"]
    params = jax.tree.map(
        lambda s: jnp.asarray(rng.standard_normal(s.shape) * 0.3, jnp.float32), shapes
    )
    return module, {"params": params}, ids, text, mask


def test_a_causal_one_sees_nothing_after():
    module, variables, ids, text, mask = made(is_causal=True)
    run = jax.jit(module.apply)
    base = run(variables, ids, text, mask)
    for place in range(N):
        changed = run(variables, ids.at[:, place].set((ids[:, place] + 1) % K), text, mask)
        difference = np.abs(np.asarray(changed - base)).max((0, 2))
        assert difference[:place].max(initial=0.0) == 0.0 and difference[place] > 1e-4


def test_another_sees_all():
    module, variables, ids, text, mask = made(is_causal=False)
    run = jax.jit(module.apply)
    base = run(variables, ids, text, mask)
    changed = run(variables, ids.at[:, -1].set((ids[:, -1] + 1) % K), text, mask)
    assert np.abs(np.asarray(changed - base)).max((0, 2)).min() > 1e-5


def test_the_cache_gives_what_the_whole_sequence_gives():
    module, variables, ids, text, mask = made(is_causal=True)
    whole = jax.jit(module.apply)(variables, ids, text, mask)
    step, cache = jax.jit(functools.partial(module.apply, method="step")), module.empty_cache(B)
    for place in range(N):
        logits, cache = step(variables, ids[:, place], jnp.asarray(place), cache, text, mask)
        np.testing.assert_allclose(logits, whole[:, place], atol=1e-5)


def test_a_style_is_heard_everywhere_and_the_same_by_the_cache():
    module, _, ids, text, mask = made(is_causal=True)
    rng = np.random.default_rng(1)
    styles = jnp.asarray(rng.standard_normal((B, 5)), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), ids, text, mask, style=styles)
    variables = jax.tree.map(
        lambda s: jnp.asarray(rng.standard_normal(s.shape) * 0.3, jnp.float32), shapes
    )
    run = jax.jit(module.apply)
    whole = run(variables, ids, text, mask, style=styles)
    other = run(variables, ids, text, mask, style=-styles)
    assert np.abs(np.asarray(whole - other)).max((0, 2)).min() > 1e-3
    step, cache = jax.jit(functools.partial(module.apply, method="step")), module.empty_cache(B)
    for place in range(N):
        logits, cache = step(
            variables, ids[:, place], jnp.asarray(place), cache, text, mask, style=styles
        )
        np.testing.assert_allclose(logits, whole[:, place], atol=1e-5)


def test_padding_of_the_text_is_not_read():
    module, variables, ids, text, mask = made(is_causal=False)
    run = jax.jit(module.apply)
    base = run(variables, ids, text, mask)
    other = run(variables, ids, text.at[1, 2:].set(9.0), mask)
    np.testing.assert_array_equal(base, other)
    heard = run(variables, ids, text.at[1, 1].set(9.0), mask)
    assert np.abs(np.asarray(heard - base))[1].max() > 1e-3


def test_text_is_unheard_at_the_start():
    module, _, ids, text, mask = made(is_causal=False)
    fresh, run = jax.jit(module.init)(jax.random.key(0), ids, text, mask), jax.jit(module.apply)
    a, b = (run(fresh, ids, t, mask) for t in (text, -3.0 * text))
    np.testing.assert_array_equal(a, b)


def test_remat_and_dropout():
    module, variables, ids, text, mask = made(is_causal=False, dropout=0.5)
    again, _, *_ = made(is_causal=False, dropout=0.5, remat=True)
    key = {"dropout": jax.random.key(1)}

    def slope(module):
        def loss(params):
            return module.apply({"params": params}, ids, text, mask, False, rngs=key).std()

        return jax.jit(jax.grad(loss))(variables["params"])

    want, have = slope(module), slope(again)
    for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(have)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    without = jax.jit(module.apply)(variables, ids, text, mask)
    with_it = jax.jit(lambda v: module.apply(v, ids, text, mask, False, rngs=key))(variables)
    assert np.abs(np.asarray(without - with_it)).max() > 1e-2


def test_heads_must_divide_the_width():
    module = TokenTransformer(K, GRID, hidden_size=16, num_heads=3)
    args = jnp.zeros((1, N), jnp.int32), jnp.zeros((1, 2, 8)), jnp.ones((1, 2), bool)
    with pytest.raises(UserError, match="num_heads=3"):
        module.init(jax.random.key(0), *args)


def test_the_gradient_of_the_embedding_is_that_of_indexing():
    rng = np.random.default_rng(0)
    ids = jnp.asarray(np.where(rng.random((4, 9)) < 0.6, 6, rng.integers(0, 6, (4, 9))), jnp.int32)
    weight = jnp.asarray(rng.standard_normal((4, 9, 5)), jnp.float32)
    module = CodeEmbedding(8, 5)
    params = module.init(jax.random.key(0), ids)["params"]
    have = jax.grad(lambda p: (module.apply({"params": p}, ids) * weight).sum())(params)
    want = jax.grad(lambda t: (t[ids] * weight).sum())(params["embedding"])
    np.testing.assert_allclose(have["embedding"], want, atol=1e-5)
    assert np.abs(want[6]).max() > 0 and np.abs(want[7]).max() == 0
    half = CodeEmbedding(8, 5, dtype=jnp.bfloat16).apply({"params": params}, ids)
    assert half.dtype == jnp.bfloat16
