"""Frechet and kernel distances against scipy, closed forms and loops."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from gen_jax.common.errors import UserError
from gen_jax.metrics import moments
from gen_jax.metrics.frechet import frechet, frechet_distance, frechet_interval
from gen_jax.metrics.interval import bootstrap
from gen_jax.metrics.kid import kernel_distance, mmd2


def correlated(seed, n, d, shift=0.0):
    random = np.random.RandomState(seed)
    return random.randn(n, d) @ random.randn(d, d) / np.sqrt(d) + shift


def test_frechet_is_scipys_matrix_root():
    x, y = correlated(0, 500, 16), correlated(1, 400, 16, shift=0.3)
    a, b = moments.of(x), moments.of(y)
    gap = x.mean(0) - y.mean(0)
    c_x, c_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = gap @ gap + np.trace(c_x + c_y - 2 * scipy.linalg.sqrtm(c_x @ c_y).real)
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-9)
    np.testing.assert_allclose(frechet(jnp.asarray(x), jnp.asarray(y)), expected, rtol=1e-4)


def test_frechet_of_known_gaussians():
    """For commuting covariances it is |gap|^2 + sum (s - t)^2."""
    s, t, gap = np.array([1.0, 2.0, 0.0]), np.array([0.5, 3.0, 1.0]), np.array([1.0, 0.0, 2.0])
    a = moments.Moments(11, np.zeros(3), 10 * np.diag(s**2))
    b = moments.Moments(21, gap, 20 * np.diag(t**2))
    np.testing.assert_allclose(frechet_distance(a, b), gap @ gap + ((s - t) ** 2).sum())


def test_frechet_with_fewer_rows_than_dimensions():
    x = correlated(2, 10, 64)
    assert frechet(x, x) < 1e-6 * np.trace(moments.of(x).covariance)
    assert np.isfinite(frechet(x, correlated(3, 12, 64)))


@pytest.mark.parametrize("n,m", [(10, 12), (10, 400), (400, 10)])
def test_frechet_of_few_rows_is_that_of_their_moments(n, m):
    x, y = correlated(2, n, 64), correlated(3, m, 64, shift=0.3)
    want = frechet_distance(moments.of(x), moments.of(y))
    np.testing.assert_allclose(frechet(x, y), want, rtol=1e-6)


def test_frechet_interval_covers_the_spread_of_repeated_sets():
    reference = np.random.RandomState(0).randn(4000, 4)
    values = [
        frechet(reference, np.random.RandomState(k).randn(300, 4) + 0.5) for k in range(1, 60)
    ]
    interval = frechet_interval(reference, np.random.RandomState(1).randn(300, 4) + 0.5)
    assert interval.low < interval.value < interval.high
    spread = np.quantile(values, 0.975) - np.quantile(values, 0.025)
    assert 0.6 < (interval.high - interval.low) / spread < 1.7


def test_bootstrap_of_a_mean_is_the_textbooks():
    x = np.random.RandomState(0).randn(400)
    interval = bootstrap(np.mean, x, num_resamples=2000)
    half = 1.96 * x.std() / 20
    np.testing.assert_allclose(interval.high - interval.value, half, rtol=0.1)
    np.testing.assert_allclose(interval.value - interval.low, half, rtol=0.1)


def brute_force_mmd2(x, y):
    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    across = sum(kernel(a, b) for a in x for b in y)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)


def test_mmd_is_the_double_loop():
    x, y = correlated(0, 12, 5), correlated(1, 9, 5, shift=0.5)
    np.testing.assert_allclose(mmd2(x, y), brute_force_mmd2(x, y), rtol=1e-10)


def test_mmd_of_known_gaussians_and_its_interval():
    """In one dimension E k(a, b) has a closed form in the moments of a and b."""

    def moment(mean):  # of N(mean, 1)
        return np.array([1, mean, mean**2 + 1, mean**3 + 3 * mean])

    binomial = np.array([1, 3, 3, 1])
    p, q = moment(0.0), moment(0.5)
    truth = (binomial * (p - q) ** 2).sum()
    held, values = 0, []
    for seed in range(40):
        random = np.random.RandomState(seed)
        x, y = random.randn(400, 1), random.randn(400, 1) + 0.5
        interval = kernel_distance(x, y, num_subsets=50, subset_size=100)
        held += interval.low <= truth <= interval.high
        values.append(interval.value)
    assert abs(np.mean(values) - truth) < 4 * np.std(values) / np.sqrt(40)
    assert held >= 33, held


def test_distances_are_zero_for_the_same_and_grow_with_shift():
    x, y = np.random.RandomState(0).randn(2, 600, 8)
    assert frechet(x, x) < 1e-9
    assert abs(mmd2(x, y)) < 0.02
    for distance in (frechet, mmd2):
        values = [distance(x, y + shift) for shift in (0.0, 0.2, 0.5, 1.0)]
        assert values == sorted(values)


def test_unbiased_at_small_counts():
    """The mean over many small equal sets is 0, where the Frechet distance's is not."""
    sets = np.random.RandomState(0).randn(200, 2, 20, 4)
    values = np.array([mmd2(x, y) for x, y in sets])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(200)


def test_too_few_rows_are_named():
    one, two = np.zeros((1, 3)), np.zeros((2, 3))
    with pytest.raises(UserError, match="at least 2"):
        frechet(one, two)
    with pytest.raises(UserError, match="at least 2"):
        mmd2(one, two)
    with pytest.raises(UserError, match="at least 4"):
        kernel_distance(two, two)
