"""Codebooks: exact searches, sums and averages, started and kept alive, alike on any devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_jax.common.errors import UserError
from gen_jax.models.quantizers import FSQ, VectorQuantizer, base
from gen_jax.models.quantizers.nearest import k_means, nearest_code, sums_by_code


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("block", [7, 50])  # several blocks, the last one filled up, and one
def test_nearest_code_is_the_nearest(block):
    z, book = draw(0, 200, 5), draw(1, 50, 5)
    distance = ((z[:, None].astype(np.float64) - book[None]) ** 2).sum(-1)
    found = jax.jit(nearest_code, static_argnums=2)(z, book, block)
    np.testing.assert_array_equal(found, distance.argmin(-1))


def test_the_first_of_equal_codes_is_chosen_in_any_block():
    book = jnp.asarray(np.repeat(draw(0, 3, 4), 2, 0))
    nearest = jax.jit(nearest_code, static_argnums=2)
    for block in (1, 2, 6):
        np.testing.assert_array_equal(nearest(book, book, block), [0, 0, 2, 2, 4, 4])


@pytest.mark.parametrize("block", [3, 64])
def test_sums_by_code(block):
    z, codes = draw(0, 100, 4), np.random.default_rng(0).integers(0, 10, 100).astype(np.int32)
    counts, sums = jax.jit(sums_by_code, static_argnums=(2, 3))(z, codes, 10, block)
    np.testing.assert_array_equal(counts, np.bincount(codes, minlength=10))
    want = np.stack([z[codes == k].sum(0) for k in range(10)])
    np.testing.assert_allclose(sums, want, atol=1e-5)


def test_k_means_finds_clusters():
    centres = 10.0 * draw(0, 4, 3)
    z = np.concatenate([c + 0.01 * draw(i, 50, 3) for i, c in enumerate(centres)])
    # Lloyd's iterations can start two in one cluster: the best of a few starts is what k-means is.
    start = jax.jit(k_means, static_argnums=1)
    runs = [start(z, 4, jax.random.key(i)) for i in range(5)]
    best = min(
        runs, key=lambda r: ((z[:, None] - np.asarray(r[0])[None]) ** 2).sum(-1).min(1).sum()
    )
    order = [int(np.argmin(((best[0] - c[None]) ** 2).sum(-1))) for c in centres]
    np.testing.assert_allclose(np.asarray(best[0])[order], centres, atol=0.02)
    np.testing.assert_array_equal(best[1], [50] * 4)


def test_k_means_on_eight_devices_is_that_on_one():
    """Lloyd's iterations in float64 show that no latent is near a tie, on any CPU."""
    z, key = draw(3, 128, 4), jax.random.key(0)
    centers = z[np.asarray(jax.random.permutation(key, len(z)))[:8]].astype(np.float64)
    for _ in range(10):
        distance = ((z[:, None].astype(np.float64) - centers[None]) ** 2).sum(-1)
        first, second = np.sort(distance, -1)[:, :2].T
        assert (second - first).min() > 1e-4
        nearest = distance.argmin(-1)
        centers = np.stack([z[nearest == k].astype(np.float64).mean(0) for k in range(8)])
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.device_put(z, jax.NamedSharding(mesh, jax.P("data")))
    start = jax.jit(k_means, static_argnums=1)
    for got, counts in (start(jnp.asarray(z), 8, key), start(split, 8, key)):
        np.testing.assert_allclose(got, centers, atol=1e-5)
        np.testing.assert_array_equal(counts, np.bincount(nearest, minlength=8))


def test_more_codes_than_latents_start_finite():
    found, counts = jax.jit(k_means, static_argnums=1)(draw(0, 5, 3), 12, jax.random.key(0))
    assert np.isfinite(found).all() and counts.sum() == 5


def test_gradients_pass_straight_through_or_turn():
    z, q, g = draw(0, 6, 4), draw(1, 6, 4), draw(2, 6, 4)

    def pulled(fn):
        @jax.jit
        def run(z, g):
            out, back = jax.vjp(lambda z: fn(z, jnp.asarray(q)), z)
            return out, back(g)[0]

        out, slope = run(z, g)
        np.testing.assert_allclose(out, q, atol=1e-5)
        return np.asarray(slope)

    np.testing.assert_allclose(pulled(base.straight_through), g, atol=1e-6)
    turned = pulled(base.rotation_trick)
    # A rotation keeps the angle between the gradient and the vector, and scales by |q| / |z|.
    scale = np.linalg.norm(q, axis=-1) / np.linalg.norm(z, axis=-1)
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=-1), scale * np.linalg.norm(g, axis=-1), rtol=1e-4
    )

    def cosine(a, b):
        return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)

    np.testing.assert_allclose(cosine(turned, z), cosine(g, q), atol=1e-4)


def test_moving_averages_are_those_of_the_paper():
    how = VectorQuantizer(num_codes=4, dim=3, cosine=False, decay=0.9, restart_below=0.0)
    z = jnp.asarray(draw(0, 2, 5, 5, 3))
    book = jax.jit(how.prepare)(z, how.init(jax.random.key(0)), jax.random.key(1))

    @jax.jit
    def quantize(z, book):
        found = how(z, book)
        return found, how.update(z, found, book, jax.random.key(2))

    count, total = None, None
    for step in range(3):
        z = jnp.asarray(draw(step, 2, 5, 5, 3))
        found, (book, metrics) = quantize(z, book)
        flat, chosen = np.asarray(z).reshape(-1, 3), np.asarray(found.codes).ravel()
        counts = np.bincount(chosen, minlength=4).astype(np.float64)
        sums = np.stack([flat[chosen == k].sum(0) for k in range(4)])
        first = count is None
        count = counts if first else 0.9 * count + 0.1 * counts
        total = sums if first else 0.9 * total + 0.1 * sums
        np.testing.assert_allclose(book["codes"][0], total / count[:, None], rtol=1e-4)
        p = counts / counts.sum()
        np.testing.assert_allclose(
            metrics["perplexity"], np.exp(-(p * np.log(np.maximum(p, 1e-12))).sum()), rtol=1e-4
        )
    assert int(book["updates"]) == 3


def test_a_dead_code_begins_anew_at_a_latent():
    how = VectorQuantizer(num_codes=3, dim=2, restart_below=0.05)
    codes = jnp.asarray([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    book = {
        "codes": codes,
        "count": jnp.asarray([[8.0, 8.0, 0.001]]),
        "sum": codes * 8.0,
        "updates": jnp.asarray(5),
    }
    z = jnp.abs(jnp.asarray(draw(0, 1, 4, 4, 2)))  # nothing near the third code
    update = jax.jit(
        lambda how: how.update(z, how(z, book), book, jax.random.key(0)), static_argnums=0
    )
    new, metrics = update(how)
    assert float(metrics["restarted"]) == 1.0
    unit = np.asarray(z).reshape(-1, 2)
    unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
    assert np.abs(unit - np.asarray(new["codes"][0, 2])[None]).max(-1).min() < 1e-6
    assert float(new["count"][0, 2]) == pytest.approx(16 / 3)
    kept, none = update(dataclasses.replace(how, restart_below=0.0))
    assert float(none["restarted"]) == 0.0
    np.testing.assert_allclose(kept["codes"][0, 2], [-1.0, 0.0], atol=1e-6)


def test_prepare_starts_once():
    how = VectorQuantizer(num_codes=8, dim=4)
    z = jnp.asarray(draw(0, 2, 4, 4, 4))
    fresh = how.init(jax.random.key(0))
    prepare = jax.jit(how.prepare)
    started = prepare(z, fresh, jax.random.key(1))
    assert np.abs(np.asarray(started["codes"]) - np.asarray(fresh["codes"])).max() > 0.1
    later = {**fresh, "updates": jnp.ones((), jnp.int32)}
    np.testing.assert_array_equal(prepare(z, later, jax.random.key(1))["codes"], fresh["codes"])


def quantized(how, z):
    """Starts a codebook from latents; returns what it makes of them, and its codes' latents."""
    book = how.prepare(z, how.init(jax.random.key(0)), jax.random.key(1))
    found = how(z, book)
    return found, how.lookup(found.codes, book)


@pytest.mark.parametrize("how", [
    VectorQuantizer(num_codes=16, dim=4), VectorQuantizer(num_codes=16, dim=3, cosine=False),
    VectorQuantizer(num_codes=16, dim=4, cosine=False, depth=3), FSQ((8, 6, 5)), FSQ((3, 4)),
], ids=str)  # fmt: skip
def test_codes_give_the_latents_back(how):
    z = jnp.asarray(3.0 * draw(0, 2, 4, 4, how.dim))
    found, again = jax.jit(quantized, static_argnums=0)(how, z)
    assert found.codes.shape == (2, 4, 4, how.depth) and found.codes.dtype == jnp.int32
    assert int(found.codes.min()) >= 0 and int(found.codes.max()) < how.num_codes
    np.testing.assert_allclose(again, found.latent, atol=1e-5)


def test_each_level_of_depth_leaves_less_over():
    z = jnp.asarray(draw(0, 4, 8, 8, 4))
    errors = []
    for depth in (1, 2, 4):
        how = VectorQuantizer(num_codes=16, dim=4, cosine=False, depth=depth)
        found, _ = jax.jit(quantized, static_argnums=0)(how, z)
        errors.append(float(found.commitment))
    assert errors[0] > 1.5 * errors[1] > 2.0 * errors[2]


# Every example is compiled anew, its shapes are its own.
@settings(max_examples=12)
@given(levels=st.lists(st.integers(2, 9), min_size=1, max_size=4))
def test_fsq_counts_every_code_once(levels):
    how = FSQ(tuple(levels))
    every = jnp.arange(how.num_codes, dtype=jnp.int32).reshape(1, 1, -1, 1)
    latents = jax.jit(lambda codes: how.lookup(codes, {}))(every)
    assert len(np.unique(np.asarray(latents).reshape(-1, how.dim), axis=0)) == how.num_codes
    assert np.abs(np.asarray(latents)).max() <= 1.0
    # From the middle of its cell each code comes back: the map on cells is onto.
    reach = (np.array(levels) - 1) * 1.001 / 2
    offset = np.where(np.array(levels) % 2 == 0, 0.5, 0.0)
    inside = (np.asarray(latents) * (np.array(levels) // 2) + offset) / reach
    z = np.arctanh(np.clip(inside, -0.99999, 0.99999)) - np.arctanh(offset / reach)
    codes = jax.jit(lambda z: how(z, {}).codes)(jnp.asarray(z, jnp.float32))
    np.testing.assert_array_equal(codes, every)


def test_fsq_passes_gradients():
    how = FSQ((8, 5))
    grads = jax.jit(jax.grad(lambda z: how(z, {}).latent.sum()))(draw(0, 1, 3, 3, 2))
    assert (np.asarray(grads) > 0).all()


@pytest.mark.parametrize("fields,words", [
    (dict(gradient="none"), "gradient"), (dict(num_codes=1), "num_codes"),
    (dict(decay=1.0), "decay"), (dict(depth=2), "depth"), (dict(dim=1), "dim"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(fields, words):
    with pytest.raises(UserError, match=words):
        VectorQuantizer(**fields)
    with pytest.raises(UserError, match="levels"):
        FSQ((8, 1))
