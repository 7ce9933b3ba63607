"""Paths from degraded to clean latents, against what a Gaussian's posterior mean gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.diffusion.restoration_paths import FORMS, RestorationPath

MEAN, STD, OFFSET = 0.7, 0.4, 1.5
COUNT = 4096


def ideal(path, source):
    """Returns the network that predicts best for x_0 ~ N(MEAN, STD^2), independent of y."""

    def moments(t):
        """Coefficients of x_0, y and eps in x_t."""
        one, zero = jnp.ones((1, 1)), jnp.zeros((1, 1))
        at = jnp.full((1,), t)
        return (path.noised(*v, at)[0, 0] for v in (
            (one, zero, zero), (zero, one, zero), (zero, zero, one)
        ))  # fmt: skip

    def predict(x_t, t):
        a, b, c = moments(t[0])
        gain = a * STD**2 / (a**2 * STD**2 + c**2)
        x_0 = MEAN + gain * (x_t - a * MEAN - b * source)
        return (x_t - a * x_0 - b * source) / c if path.form == "noise" else x_0

    return predict


@pytest.mark.parametrize("form,steps", [("flow", 64), ("noise", 200), ("resshift", 64)])
def test_samples_of_the_ideal_network_have_the_clean_distribution(form, steps):
    path = RestorationPath(form, source_noise=0.5)
    keys = jax.random.split(jax.random.key(0), COUNT)
    source = jnp.full((COUNT, 1), OFFSET)
    draw = jax.jit(lambda keys: path.sample(ideal(path, source), source, keys, steps))
    x = np.asarray(draw(keys))
    assert x.mean() == pytest.approx(MEAN, abs=0.03)
    assert x.std() == pytest.approx(STD, rel=0.06)


@pytest.mark.parametrize("form", FORMS)
def test_ends_of_a_path_are_the_clean_latent_and_the_start_of_sampling(form):
    path = RestorationPath(form, source_noise=0.2, kappa=0.5)
    x_0, source, eps = (jnp.full((2, 3), v) for v in (1.0, 4.0, 2.0))
    at = [np.asarray(path.noised(x_0, source, eps, jnp.full((2,), t))) for t in (0.0, 1.0)]
    start = {"flow": 4.0 + 0.4, "noise": 2.0, "resshift": 4.0 + 1.0}[form]
    np.testing.assert_allclose(at[0], 1.0, atol=0.06)
    np.testing.assert_allclose(at[1], start, atol=0.02)


@pytest.mark.parametrize("form", ["flow", "resshift"])
def test_one_step_is_the_prediction(form):
    path = RestorationPath(form)
    source, keys = jnp.zeros((3, 2)), jax.random.split(jax.random.key(0), 3)
    x = path.sample(lambda x, t: jnp.full_like(x, 5.0), source, keys, 1)
    np.testing.assert_allclose(x, 5.0, rtol=1e-6)


def test_noise_is_of_each_key_or_given():
    path = RestorationPath("flow", source_noise=1.0)
    source, keys = jnp.zeros((3, 4)), jax.random.split(jax.random.key(0), 3)

    def last(x, t):
        return x / 2

    whole = path.sample(last, source, keys, 2)
    np.testing.assert_array_equal(path.sample(last, source[1:2], keys[1:2], 2)[0], whole[1])
    given = jnp.ones((3, 4))
    np.testing.assert_allclose(path.sample(last, source, keys, 2, given), 0.375)


def test_times_cover_the_path_evenly_and_errors_weigh_as_velocities():
    path = RestorationPath()
    t = np.sort(np.asarray(path.sample_t(jax.random.key(0), 8)))
    assert (np.floor(8 * t) == np.arange(8)).all()
    ones, t = jnp.ones((3, 2)), jnp.asarray([1.0, 0.5, 0.01])
    np.testing.assert_allclose(path.loss(2 * ones, ones, ones, t), [1.0, 4.0, 100.0], rtol=1e-5)


@pytest.mark.parametrize("fields,words", [
    ({"form": "bridge"}, "form='bridge'"), ({"kappa": -1.0}, "kappa=-1.0"),
    ({"schedule": "flow"}, "schedule='flow'"),
])  # fmt: skip
def test_mistakes_are_named(fields, words):
    with pytest.raises(UserError, match=words):
        RestorationPath(**fields)
