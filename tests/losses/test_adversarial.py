"""Adversarial losses: values by hand, optima, and regularisers of known functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.losses import adversarial


def test_values():
    real, fake = jnp.asarray([2.0, 0.0, -1.0]), jnp.asarray([-2.0, 0.0, 1.0])
    np.testing.assert_allclose(adversarial.hinge_discriminator(real, fake), [0, 1, 2])
    np.testing.assert_allclose(adversarial.hinge_generator(fake), [2, 0, -1])
    expected = np.log1p(np.exp(-np.asarray(real))) + np.log1p(np.exp(np.asarray(fake)))
    got = adversarial.non_saturating_discriminator(real, fake)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    got = adversarial.non_saturating_generator(fake)
    np.testing.assert_allclose(got, np.log1p(np.exp(-np.asarray(fake))), rtol=1e-5)


def test_the_generators_gradient_does_not_fade_when_it_is_found_out():
    for loss in (adversarial.hinge_generator, adversarial.non_saturating_generator):
        np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(-30.0)), -1, atol=1e-6)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_logistic_optimum_is_the_log_density_ratio(ratio):
    """Where reals are `ratio` times as dense as fakes, the best logit is log(ratio)."""

    def loss(logit):
        return ratio * jax.nn.softplus(-logit) + jax.nn.softplus(logit)

    def same(logit):
        half = adversarial.non_saturating_discriminator(logit, jnp.asarray(-1e9))
        return ratio * half + adversarial.non_saturating_discriminator(jnp.asarray(1e9), logit)

    best = jnp.log(ratio)
    np.testing.assert_allclose(same(best), loss(best), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(same)(best), 0, atol=1e-6)


def test_r1_of_known_discriminators():
    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 2))
    w = jax.random.normal(jax.random.key(1), (4, 4, 2))
    linear = adversarial.r1_penalty(lambda v: jnp.einsum("bhwc,hwc->b", v, w), x)
    np.testing.assert_allclose(linear, np.full(3, 0.5 * np.sum(np.asarray(w) ** 2)), rtol=1e-5)
    # Logits v^2 / 2, a patch each: the gradient is v itself.
    square = adversarial.r1_penalty(lambda v: 0.5 * v**2, x)
    np.testing.assert_allclose(square, 0.5 * (np.asarray(x) ** 2).sum((1, 2, 3)), rtol=1e-5)


def test_r1_can_be_trained_on():
    """Its gradient in the discriminator's weights: of |w|^2 / 2 it is w."""
    x, w = jnp.ones((2, 3)), jnp.asarray([1.0, -2.0, 3.0])
    gradient = jax.grad(lambda w: adversarial.r1_penalty(lambda v: v @ w, x).mean())(w)
    np.testing.assert_allclose(gradient, w, rtol=1e-6)
