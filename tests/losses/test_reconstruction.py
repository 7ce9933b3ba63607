"""Pixel losses and the KL term, by hand and by integration."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from gen_jax.losses import reconstruction


def test_each_is_its_formula_for_every_sample():
    x, y = np.random.RandomState(0).randn(2, 3, 4, 5, 2).astype(np.float32)
    gap, axes = x - y, (1, 2, 3)
    x, y = jnp.asarray(x), jnp.asarray(y)
    np.testing.assert_allclose(reconstruction.l1(x, y), np.abs(gap).mean(axes), rtol=1e-5)
    np.testing.assert_allclose(reconstruction.l2(x, y), (gap**2).mean(axes), rtol=1e-5)
    expected = np.sqrt(gap**2 + 0.3**2).mean(axes)
    np.testing.assert_allclose(reconstruction.charbonnier(x, y, eps=0.3), expected, rtol=1e-5)


def test_charbonnier_is_smooth_where_the_absolute_error_is_not():
    x = jnp.zeros((1, 4))
    gradient = jax.grad(lambda a: reconstruction.charbonnier(a, x).sum())
    np.testing.assert_array_equal(gradient(x), 0)
    assert np.isfinite(gradient(x + 1e-8)).all()
    far = reconstruction.charbonnier(x + 2, x)
    np.testing.assert_allclose(far, reconstruction.l1(x + 2, x), rtol=1e-6)


@hypothesis.settings(max_examples=15, deadline=None, derandomize=True)
@hypothesis.given(mean=st.floats(-3, 3), logvar=st.floats(-4, 2))
def test_kl_is_the_integral(mean, logvar):
    p, q = scipy.stats.norm(mean, np.exp(logvar / 2)), scipy.stats.norm()
    expected, _ = scipy.integrate.quad(
        lambda z: p.pdf(z) * (p.logpdf(z) - q.logpdf(z)), mean - 20, mean + 20, points=[mean]
    )
    got = reconstruction.kl_to_standard_normal(jnp.full((1, 3), mean), jnp.full((1, 3), logvar))
    np.testing.assert_allclose(got, 3 * expected, rtol=1e-4, atol=1e-5)


def test_kl_is_zero_at_the_prior_and_accurate_beside_it():
    zero = jnp.zeros((2, 4))
    np.testing.assert_array_equal(reconstruction.kl_to_standard_normal(zero, zero), 0)
    small = reconstruction.kl_to_standard_normal(zero, zero + 1e-3)
    np.testing.assert_allclose(small, 4 * 0.25e-6, rtol=1e-3)


@pytest.mark.parametrize("loss", [reconstruction.l1, reconstruction.l2])
def test_bfloat16_is_summed_in_float32(loss):
    x = jnp.full((1, 300, 300), 1.0, jnp.bfloat16)
    got = loss(x, x * 0)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, 1.0)
