"""Risk control: the bounds hold for new draws, and too few images are no calibration."""

import numpy as np
import pytest

from gen_jax.metrics import conformal


def test_the_last_safe_setting_by_hand():
    losses = np.array([[0.0, 0.1, 0.3, 0.2], [0.0, 0.1, 0.3, 0.2], [0.0, 0.0, 0.3, 0.2]])
    # (sum + 1) / 4 is 0.25, 0.3, 0.475, 0.4: what follows an unsafe setting does not count.
    assert conformal.largest_safe(losses, 0.24) is None
    assert conformal.largest_safe(losses, 0.25) == 0
    assert conformal.largest_safe(losses, 0.45) == 1
    assert conformal.largest_safe(losses, 0.5) == 3


@pytest.mark.parametrize("alpha,least", [(0.5, 1), (0.1, 9), (0.05, 19), (0.3, 3)])
def test_fewer_images_than_needed_are_never_safe(alpha, least):
    assert conformal.least_count(alpha) == least
    assert conformal.largest_safe(np.zeros((least, 3)), alpha) == 2
    assert least == 1 or conformal.largest_safe(np.zeros((least - 1, 3)), alpha) is None


def test_the_expected_risk_is_at_most_alpha():
    rng, alpha, risks = np.random.default_rng(0), 0.2, []
    for _ in range(400):
        limits = rng.beta(2, 2, 31)
        losses = np.linspace(0, 1, 101)[None] * limits[:, None]
        chosen = conformal.largest_safe(losses[:30], alpha)
        risks.append(losses[30, chosen])
    assert np.mean(risks) <= alpha + 2 * np.std(risks) / 20
    assert np.mean(risks) > 0.75 * alpha


@pytest.mark.parametrize("mean", [0.03, 0.3])
def test_the_upper_bound_holds_and_is_near(mean):
    rng, bounds = np.random.default_rng(1), []
    for _ in range(200):
        bounds.append(conformal.upper_bound((rng.random(100) < mean).astype(float), 0.1))
    assert np.mean(np.array(bounds) >= mean) >= 0.9
    hoeffding = mean + np.sqrt(np.log(10) / 200)
    assert mean < np.mean(bounds) < hoeffding + 0.02
    assert conformal.upper_bound(np.ones(50), 0.1) > 0.95


def test_intervals_are_as_narrow_as_the_bound_allows():
    falling = np.linspace(1, 0, 11)[None].repeat(200, 0)
    first = conformal.smallest_covering(falling, 0.25, 0.1)
    assert first in (8, 9)
    assert conformal.smallest_covering(np.ones((200, 3)), 0.25, 0.1) is None
