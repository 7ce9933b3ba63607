import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_jax.metrics import calibration, reading


def recursive(a, b):
    @functools.cache
    def distance(i, j):
        if not i or not j:
            return i + j
        change = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(change, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(a), len(b))


@given(st.text("AB1", max_size=7), st.text("AB1", max_size=7))
def test_edit_distance_is_that_of_its_definition(a, b):
    assert reading.edit_distance(a, b) == recursive(a, b)


def test_accuracies_of_known_texts():
    read, truth = ["AB12", "", "XYZ9"], ["AB12", "CD", "XY9"]
    assert reading.exact(read, truth) == pytest.approx(1 / 3)
    assert reading.character_accuracy(read, truth) == pytest.approx(1 - 3 / 9)
    assert reading.character_accuracy(["ABCDEF"], ["X"]) == 0.0


def test_calibration_error_of_calibrated_and_of_certain_predictions():
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000)
    is_right = rng.random(len(confidence)) < confidence
    assert calibration.calibration_error(confidence, is_right) < 0.01
    certain = np.ones(1000)
    right = np.arange(1000) % 4 > 0
    assert calibration.calibration_error(certain, right) == pytest.approx(0.25)


def test_coverage_keeps_the_most_confident():
    confidence = np.array([0.9, 0.8, 0.8, 0.3, 0.1])
    is_right = np.array([True, True, False, True, False])
    assert calibration.coverage_at_precision(confidence, is_right, 0.75) == pytest.approx(0.8)
    assert calibration.coverage_at_precision(confidence, is_right, 0.9) == pytest.approx(0.2)
    assert calibration.coverage_at_precision(confidence, ~is_right, 0.9) == 0.0
