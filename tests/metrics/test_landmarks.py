import numpy as np
import pytest

from gen_jax.metrics import landmarks


def test_errors_are_in_units_of_the_distance_between_the_eyes():
    target = np.array([[[0.0, 0.0], [4.0, 3.0], [1.0, 1.0]]])
    predicted = target + np.array([[[0.3, 0.4], [0.0, 0.0], [0.0, 1.0]]])
    errors = landmarks.normalized_errors(predicted, target, (0, 1))
    np.testing.assert_allclose(errors, [(0.5 + 0.0 + 1.0) / 3 / 5])
    again = landmarks.normalized_errors(10 * predicted, 10 * target, (0, 1))
    np.testing.assert_allclose(again, errors)


def test_area_under_the_curve_is_its_integral():
    errors = np.random.default_rng(0).gamma(2.0, 0.02, 500)
    at = np.linspace(0, landmarks.FAILURE, 100_001)
    below = np.searchsorted(np.sort(errors), at, side="right") / len(errors)
    want = np.trapezoid(below, at) / landmarks.FAILURE
    assert landmarks.area_under_curve(errors) == pytest.approx(want, abs=1e-4)
    assert landmarks.failure_rate(errors) == pytest.approx(1 - below[-1])
