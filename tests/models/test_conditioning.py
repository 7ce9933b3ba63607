"""FiLM and attention to text on synthetic maps: silent at first, heard later, blind to padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.models.layers.attention import Attention
from gen_jax.models.layers.conditioning import FiLM, TextCrossAttention, masked_mean
from gen_jax.models.text_encoder import CompactTextEncoder


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), jnp.float32)


def heard(params):
    """Parameters as after training: nothing is zero."""
    leaves, tree = jax.tree.flatten(params)
    return tree.unflatten([x + 0.3 * normal(*x.shape, seed=i) for i, x in enumerate(leaves)])


MAP, TEXT, MASK = (
    normal(3, 4, 6, 8),
    normal(3, 5, 7),
    jnp.arange(5)[None] < jnp.array([[2], [5], [3]]),
)


def cross():
    module = TextCrossAttention(heads=2)
    return module, jax.jit(module.init)(jax.random.key(0), MAP, TEXT, MASK)["params"]


def test_both_are_the_identity_at_first():
    module, params = cross()
    np.testing.assert_array_equal(jax.jit(module.apply)({"params": params}, MAP, TEXT, MASK), MAP)
    film = FiLM()
    params = jax.jit(film.init)(jax.random.key(0), MAP, TEXT[:, 0])["params"]
    out = jax.jit(film.apply)({"params": params}, MAP, TEXT[:, 0])
    np.testing.assert_array_equal(out, MAP)


def test_film_scales_and_shifts_whole_channels():
    film = FiLM()
    params = heard(jax.jit(film.init)(jax.random.key(0), MAP, TEXT[:, 0])["params"])
    out = jax.jit(film.apply)({"params": params}, MAP, TEXT[:, 0])
    kernel, bias = (params["gamma_beta"][k] for k in ("kernel", "bias"))
    both = jax.nn.silu(TEXT[:, 0]) @ kernel + bias[None]
    gamma, beta = both[:, None, None, :8], both[:, None, None, 8:]
    np.testing.assert_allclose(out, MAP * (1 + gamma) + beta, rtol=1e-4, atol=1e-5)


def test_attention_to_text_sees_real_tokens_only():
    module, params = cross()
    params = heard(params)
    run = jax.jit(lambda text, mask: module.apply({"params": params}, MAP, text, mask))
    out = run(TEXT, MASK)
    assert float(jnp.abs(out - MAP).max()) > 0.01
    padding = jnp.where(MASK[..., None], TEXT, 100.0)
    np.testing.assert_allclose(run(padding, MASK), out, atol=1e-6)
    other = run(TEXT.at[:, 0].add(1.0), MASK)
    assert float(jnp.abs(other - out).max((1, 2, 3)).min()) > 1e-3


def test_a_batch_is_its_parts_and_strength_scales_what_is_added():
    module, params = cross()
    params = heard(params)
    run = jax.jit(module.apply)
    out = run({"params": params}, MAP, TEXT, MASK)
    for i in range(3):
        one = run({"params": params}, MAP[i : i + 1], TEXT[i : i + 1], MASK[i : i + 1])
        np.testing.assert_allclose(one[0], out[i], atol=1e-5)
    half = run({"params": params}, MAP, TEXT, MASK, jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(half[0], MAP[0])
    np.testing.assert_allclose(half[1] - MAP[1], 0.5 * (out[1] - MAP[1]), atol=1e-5)
    np.testing.assert_allclose(half[2], out[2], atol=1e-6)


def test_mean_over_real_tokens():
    np.testing.assert_allclose(masked_mean(TEXT, MASK)[0], TEXT[0, :2].mean(0), rtol=1e-6)
    np.testing.assert_allclose(masked_mean(TEXT), TEXT.mean(1), rtol=1e-6)
    nothing = masked_mean(TEXT, jnp.zeros_like(MASK))
    np.testing.assert_array_equal(nothing, jnp.zeros_like(nothing))


@pytest.mark.parametrize("change", ["order", "length"])
def test_words_have_a_place_and_padding_none(change):
    encoder = CompactTextEncoder(vocab_size=32, max_length=8, hidden_size=8, num_heads=2)
    ids = jnp.array([[1, 5, 9, 2, 0, 0]])
    mask = jnp.arange(6)[None] < 4
    params, run = jax.jit(encoder.init)(jax.random.key(0), ids, mask), jax.jit(encoder.apply)
    states = run(params, ids, mask)
    if change == "order":
        swapped = run(params, ids[:, jnp.array([0, 2, 1, 3, 4, 5])], mask)
        assert float(jnp.abs(masked_mean(states, mask) - masked_mean(swapped, mask)).max()) > 1e-3
    else:
        longer = jnp.pad(ids, ((0, 0), (0, 2)))
        same = run(params, longer, jnp.arange(8)[None] < 4)
        np.testing.assert_allclose(same[:, :4], states[:, :4], atol=1e-5)


def test_weights_are_given_where_they_are_asked_for():
    """What `attend` gives is the values by these weights, and asking changes nothing."""
    module = Attention(heads=2)
    x, text = normal(3, 6, 8), normal(3, 5, 7)
    params = jax.jit(module.init)(jax.random.key(0), x, text, MASK)["params"]
    out, found = module.apply({"params": params}, x, text, MASK, mutable=["intermediates"])
    np.testing.assert_array_equal(out, module.apply({"params": params}, x, text, MASK))
    (weights,) = found["intermediates"]["weights"]
    assert weights.shape == (3, 2, 6, 5)
    np.testing.assert_allclose(weights.sum(-1), np.ones((3, 2, 6)), rtol=1e-6)
    assert (np.asarray(weights)[:, 0, 0][~np.asarray(MASK)] == 0).all()
    values = (text @ params["to_v"]["kernel"]).reshape(3, 5, 2, 4)
    mixed = jnp.einsum("bhnm,bmhd->bnhd", weights, values).reshape(3, 6, 8)
    expected = mixed @ params["to_out_0"]["kernel"] + params["to_out_0"]["bias"][None, None]
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
