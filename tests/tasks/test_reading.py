"""The probe that names what is asked, in the loss of a generator that hears sentences."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gen_jax.data.text import face_words
from gen_jax.tasks.objectives import reading


def scene(stored, facts, asked, step=0):
    space = types.SimpleNamespace(stored=lambda batch: stored)
    batch = {"facts": jnp.asarray(facts, jnp.int8), "asked": jnp.asarray(asked, jnp.int8)}
    return types.SimpleNamespace(
        features=space, batch=batch, rngs={"reading": jax.random.key(step)}
    )


def faces(count, seed=0):
    """Features of which a direction at one place tells glasses; gender is not known."""
    rng = np.random.default_rng(seed)
    glasses = rng.integers(0, 2, count)
    x = rng.normal(size=(count, 4, 4, 16))
    x[:, 0, 0, :4] += 4.0 * (2.0 * glasses[:, None] - 1.0)
    facts = np.stack([np.full(count, -1), np.full(count, 0), glasses], -1)
    features = {"patches": jnp.asarray(x, jnp.float32), "cls": jnp.ones((count, 8)) * 0.1}
    return features, facts


def test_it_learns_what_the_features_tell():
    features, facts = faces(256)
    here = scene(features, facts, np.full_like(facts, -1))
    params = reading.init(here, jax.random.key(1), 1.0)
    optimizer = optax.adam(1e-2)
    state = optimizer.init(params)
    asked, first = np.full_like(facts, -1), None

    @jax.jit
    def run(params, step):
        here = scene(features, facts, asked, step)
        return jax.value_and_grad(lambda p: reading.reading(here, p, features, 256, 1.0)[0])(params)

    for step in range(60):
        loss, grads = run(params, step)
        first = loss if first is None else first
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(params, updates)
    assert loss < 0.5 * first
    held_out, facts = faces(256, seed=1)
    named = reading.Reader().apply({"params": params["reader"]}, held_out)
    assert {k: v.shape[-1] for k, v in named.items()} == {
        k: len(v) for k, v in face_words.ATTRIBUTES.items()
    }
    assert (np.asarray(named["glasses"]).argmax(-1) == facts[:, 2]).mean() > 0.9


def test_generated_faces_follow_the_probe_and_do_not_move_it():
    features, facts = faces(8)
    asked = np.full_like(facts, -1)
    asked[:2, 2] = 1
    here = scene(features, facts, asked)
    params = reading.init(here, jax.random.key(1), 1.0)
    params = jax.tree.map(lambda v: jax.random.normal(jax.random.key(2), v.shape), params)
    fake = jax.tree.map(lambda v: v[:4] * 0.5, features)

    def loss(params, fake):
        return reading.reading(here, params, fake, 2, 1.0)[0]

    slopes = jax.jit(jax.grad(loss, (0, 1)))
    of_params, of_fake = slopes(params, fake)
    others = jax.tree.map(
        lambda v: v + 1.0 + jnp.arange(4.0).reshape(4, *(1,) * (v.ndim - 1)), fake
    )
    again, _ = slopes(params, jax.tree.map(jnp.square, others))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), of_params, again)
    # Two samples a sentence: all four are asked for glasses.
    assert (np.abs(of_fake["patches"]).max((1, 2, 3)) > 0).all()
    moved = jax.tree.map(lambda v, g: v - 0.1 * g, fake, of_fake)
    value = jax.jit(loss)
    assert value(params, moved) < value(params, fake)


def test_without_anything_asked_for_there_is_nothing_to_follow():
    features, facts = faces(4)
    here = scene(features, facts, np.full_like(facts, -1))
    # A reader begins with nought, which nothing follows anyway.
    params = jax.tree.map(
        lambda v: v + jax.random.normal(jax.random.key(2), v.shape),
        reading.init(here, jax.random.key(1), 1.0),
    )

    def loss(fake, here):
        return reading.reading(here, params, fake, 4, 1.0)[0]

    pull = jax.jit(lambda fake: jax.grad(loss)(fake, here))(features)
    assert all(np.abs(v).max() == 0 for v in jax.tree.leaves(pull))
    asked = scene(features, facts, facts)
    pull = jax.jit(lambda fake: jax.grad(loss)(fake, asked))(features)
    assert np.abs(pull["patches"]).max() > 0


def test_without_a_weight_or_sentences_there_is_no_reader():
    features, facts = faces(4)
    here = scene(features, facts, facts)
    assert reading.init(here, jax.random.key(0), 0.0) == {}
    here.batch.clear()
    assert reading.init(here, jax.random.key(0), 1.0) == {}
    assert reading.reading(here, {}, features, 4, 1.0) == (0.0, {})
