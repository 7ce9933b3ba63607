"""Sampling of codes: schedules, hiding, and both ways of drawing against what they must give."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.diffusion import tokens

KEYS = jax.random.split(jax.random.key(0), 6)
N, K = 12, 5


def test_schedule_hides_all_and_then_none():
    share = tokens.cosine_schedule(jnp.linspace(0.0, 1.0, 5))
    assert float(share[0]) == 1.0 and abs(float(share[-1])) < 1e-6
    assert (np.diff(share) < 0).all()


def test_hide_hides_at_least_one_and_keeps_the_others():
    codes = jnp.asarray(np.random.default_rng(0).integers(0, K, (200, N)), jnp.int32)
    ids, hidden = tokens.hide(codes, K, jax.random.key(1))
    assert hidden.sum(-1).min() >= 1
    np.testing.assert_array_equal(ids, np.where(hidden, K, codes))
    # Of the cosine of an even variable the mean is 2 / pi; hidden counts are rounded up.
    assert float(hidden.mean()) == pytest.approx(2 / np.pi + 0.5 / N, abs=0.05)


@pytest.mark.parametrize("steps", [1, 3, N])
def test_parallel_decode_asks_so_often_and_leaves_nothing_hidden(steps):
    seen = []

    def logits_fn(ids):
        jax.debug.callback(lambda ids: seen.append(np.asarray(ids)), ids)
        return jnp.zeros((*ids.shape, K))

    out = tokens.parallel_decode(logits_fn, KEYS, N, K, steps=steps)
    jax.effects_barrier()
    assert len(seen) == steps and out.shape == (len(KEYS), N)
    assert (out >= 0).all() and (out < K).all()
    hidden = [int((ids == K).sum(-1).max()) for ids in seen]
    assert hidden[0] == N and all(a > b for a, b in itertools.pairwise(hidden))


def test_what_is_kept_stays():
    drawn = []

    def logits_fn(ids):
        jax.debug.callback(lambda ids: drawn.append(np.asarray(ids)), ids)
        return jnp.zeros((*ids.shape, K))

    out = np.asarray(tokens.parallel_decode(logits_fn, KEYS, N, K, steps=5))
    jax.effects_barrier()
    for ids in drawn:
        np.testing.assert_array_equal(out[ids < K], ids[ids < K])


def test_the_likeliest_codes_without_any_noise():
    logits = jax.random.normal(jax.random.key(3), (N, K))
    out = tokens.parallel_decode(
        lambda ids: jnp.broadcast_to(logits[None], (*ids.shape, K)),
        KEYS, N, K, steps=4, temperature=0.0, choice_temperature=0.0,
    )  # fmt: skip
    np.testing.assert_array_equal(out, np.broadcast_to(logits.argmax(-1), out.shape))


def test_codes_are_drawn_as_often_as_they_should():
    p = jnp.asarray([0.5, 0.3, 0.15, 0.05])
    keys = jax.random.split(jax.random.key(5), 400)
    parallel = tokens.parallel_decode(
        lambda ids: jnp.broadcast_to(jnp.log(p)[None, None], (*ids.shape, 4)), keys, N, 4, steps=1
    )
    ordered = tokens.ordered_decode(
        lambda ids, at, cache: (jnp.broadcast_to(jnp.log(p)[None], (len(ids), 4)), cache),
        (), keys, N, 4,
    )  # fmt: skip
    for out in (parallel, ordered):
        share = np.bincount(np.asarray(out).ravel(), minlength=4) / out.size
        np.testing.assert_allclose(share, p, atol=0.03)


def test_ordered_decode_follows_its_own_codes():
    """Each code is decided by the one before it: the whole sequence is then known."""

    def step_fn(ids, at, cache):
        following = jnp.where(ids == K, 0, (ids + at) % K)
        return 50.0 * jax.nn.one_hot(following, K), cache

    out = tokens.ordered_decode(step_fn, (), KEYS, N, K)
    want = [0]
    for at in range(1, N):
        want.append((want[-1] + at) % K)
    np.testing.assert_array_equal(out, np.broadcast_to(want, out.shape))


def test_a_row_does_not_depend_on_its_batch():
    def logits_fn(ids):
        return jnp.stack([(ids * (k + 1) % 7).astype(jnp.float32) for k in range(K)], -1)

    whole = tokens.parallel_decode(logits_fn, KEYS, N, K, steps=4)
    alone = tokens.parallel_decode(logits_fn, KEYS[2:3], N, K, steps=4)
    np.testing.assert_array_equal(whole[2:3], alone)
