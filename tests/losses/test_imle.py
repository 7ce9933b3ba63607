"""IMLE: the nearest sample, and which samples may compete."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gen_jax.losses import imle


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_every_real_image_pulls_the_nearest_sample():
    real, pool = draw(0, 7, 5), draw(1, 20, 5)
    chosen, distance = imle.nearest(real, pool)
    every = np.linalg.norm(np.asarray(real)[:, None] - np.asarray(pool)[None], axis=-1)
    np.testing.assert_array_equal(chosen, every.argmin(1))
    np.testing.assert_allclose(distance, every.min(1), rtol=1e-4)


def test_samples_within_the_radius_are_left_to_themselves():
    real, pool = draw(0, 7, 5), draw(1, 20, 5)
    every = np.linalg.norm(np.asarray(real)[:, None] - np.asarray(pool)[None], axis=-1)
    radius = float(np.quantile(every.min(0), 0.4))
    chosen, _ = imle.nearest(real, pool, radius)
    assert (every.min(0)[np.asarray(chosen)] >= radius).all()
    free, _ = imle.nearest(real, pool)
    assert (every.min(0)[np.asarray(free)] < radius).any(), "the radius excludes nobody here"
    # Where all are within it, all compete.
    np.testing.assert_array_equal(imle.nearest(real, pool, 1e6)[0], free)


def test_one_after_the_other_takes_the_nearest_that_is_left():
    real, pool = draw(0, 7, 5), 0.1 * draw(1, 9, 5)  # near the mean: some are near to all
    assert len(np.unique(imle.nearest(real, pool)[0])) < 7
    chosen, distance = imle.nearest(real, pool, distinct=True)
    every = np.linalg.norm(np.asarray(real)[:, None] - np.asarray(pool)[None], axis=-1)
    left = set(range(9))
    for row, index in enumerate(np.asarray(chosen)):
        assert index == min(left, key=lambda j: every[row, j])
        left.remove(index)
    np.testing.assert_allclose(distance, every[np.arange(7), np.asarray(chosen)], rtol=1e-4)
    # A radius that leaves too few leaves all.
    radius = float(np.sort(every.min(0))[4])
    np.testing.assert_array_equal(imle.nearest(real, pool, radius, distinct=True)[0], chosen)
    radius = float(np.sort(every.min(0))[1])
    some, _ = imle.nearest(real, pool, radius, distinct=True)
    assert len(np.unique(some)) == 7 and every.min(0)[np.asarray(some)].min() >= radius


def test_too_few_samples_are_no_choice():
    with pytest.raises(ValueError, match="3 samples cannot be distinct for 7"):
        imle.nearest(draw(0, 7, 5), draw(1, 3, 5), distinct=True)


def test_mean_distance_of_nearest_neighbours():
    x = jnp.array([[0.0, 0], [1, 0], [10, 0]])
    np.testing.assert_allclose(imle.mean_nearest_distance(x), (1 + 1 + 9) / 3, rtol=1e-6)


@pytest.mark.parametrize("distinct", [False, True])
def test_eight_devices_choose_as_one_does(distinct):
    real, pool = draw(0, 16, 8), draw(1, 64, 8)
    run = jax.jit(lambda r, p: imle.nearest(r, p, 0.5 * imle.mean_nearest_distance(r), distinct))
    one = run(real, pool)
    where = NamedSharding(Mesh(np.array(jax.devices()), ("d",)), P("d"))
    many = run(*(jax.device_put(v, where) for v in (real, pool)))
    np.testing.assert_array_equal(one[0], many[0])
    np.testing.assert_allclose(one[1], many[1], rtol=1e-4)
