"""Precision, recall, density and coverage against loops and known arrangements."""

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.metrics import prdc as module
from gen_jax.metrics.prdc import prdc


def brute_force(real, fake, k):
    def radius(points, i):
        others = sorted(np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i)
        return others[k - 1]

    real_radii = [radius(real, i) for i in range(len(real))]
    fake_radii = [radius(fake, i) for i in range(len(fake))]
    near = np.array([[np.linalg.norm(f - r) for r in real] for f in fake])
    in_real, in_fake = near <= np.array(real_radii)[None], near <= np.array(fake_radii)[:, None]
    return (
        in_real.any(1).mean(),
        in_fake.any(0).mean(),
        in_real.sum() / (k * len(fake)),
        in_real.any(0).mean(),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_is_the_double_loop(k, monkeypatch):
    random = np.random.RandomState(k)
    real, fake = 1e3 + random.randn(40, 3), 1e3 + 1.3 * random.randn(33, 3) + 0.4
    expected = brute_force(real, fake, k)
    np.testing.assert_allclose(prdc(real, fake, k), expected, atol=1e-12)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(prdc(real, fake, k), expected, atol=1e-12)


def test_the_same_set_is_perfect():
    x = np.random.RandomState(0).randn(50, 4)
    same = prdc(x, x)
    assert same.precision == same.recall == same.coverage == 1 and same.density >= 1


def test_equal_distributions_have_density_about_one():
    x, y = np.random.RandomState(0).randn(2, 1500, 8)
    equal = prdc(x, y)
    assert abs(equal.density - 1) < 0.1
    # Arxiv 2002.09797, lemma 2: coverage is then about 1 - 2^-k.
    assert abs(equal.coverage - (1 - 2.0**-5)) < 0.02


def test_collapse_loses_recall_and_strays_lose_precision():
    random = np.random.RandomState(0)
    real = random.randn(400, 4)
    collapsed = prdc(real, 0.05 * random.randn(400, 4))
    assert collapsed.precision > 0.99 and collapsed.recall < 0.05 and collapsed.coverage < 0.3
    far = prdc(real, random.randn(400, 4) + 20)
    assert far.precision == far.recall == far.density == far.coverage == 0


def test_k_must_leave_a_neighbour():
    with pytest.raises(UserError, match="nearest_k"):
        prdc(np.zeros((5, 2)), np.zeros((9, 2)))
