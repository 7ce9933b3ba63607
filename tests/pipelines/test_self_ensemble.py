"""The mean over symmetries: every orientation once, turned back exactly."""

import numpy as np
import pytest

from gen_jax.pipelines.self_ensemble import COUNTS, mean_over_symmetries


@pytest.mark.parametrize("count", COUNTS)
def test_orientations_are_different_and_turned_back(count):
    x = np.random.default_rng(0).normal(size=(1, 4, 6, 2)).astype(np.float32)
    seen = []

    def double(y):
        seen.append(y)
        return np.repeat(np.repeat(2 * y, 2, 1), 2, 2)

    found = mean_over_symmetries(double, x, count)
    np.testing.assert_allclose(found, double(x), rtol=1e-6)
    assert len({y.tobytes() for y in seen[:-1]}) == count


def test_what_depends_on_the_orientation_is_averaged():
    x = np.zeros((1, 4, 4, 1), np.float32)

    def first_row(y):
        return y + np.eye(4, dtype=np.float32)[None, :1].swapaxes(1, 2)[..., None]

    mean = mean_over_symmetries(first_row, x, 8)[0, ..., 0]
    np.testing.assert_allclose(mean, mean.T)
    np.testing.assert_allclose(mean, mean[::-1, ::-1])
    assert mean[0, 1] == pytest.approx(0.25) and mean[1, 1] == 0
