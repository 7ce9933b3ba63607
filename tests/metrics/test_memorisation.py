"""Copies are told from new samples."""

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.metrics.memorisation import memorisation


def draw(seed, count):
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


def test_new_samples_are_as_far_as_held_out_ones():
    found = memorisation(draw(0, 2000), draw(1, 500), draw(2, 2000))
    assert found.ratio == pytest.approx(1.0, abs=0.05)
    assert found.copies < 0.03


def test_copies_are_named_with_what_they_copy():
    train = draw(1, 500)
    made = np.concatenate([train[[7, 3]] + 1e-3, draw(0, 2)])
    found = memorisation(made, train, draw(2, 500))
    assert found.nearest[:2].tolist() == [7, 3]
    want = np.linalg.norm(made[:, None].astype(np.float64) - train[None], axis=-1).min(1)
    np.testing.assert_allclose(found.distance, want, rtol=1e-4, atol=1e-4)
    assert found.copies == 0.5
    assert memorisation(train, train, draw(2, 500)).ratio < 0.01


def test_nothing_to_compare_with_is_said():
    with pytest.raises(UserError, match="no held-out images"):
        memorisation(draw(0, 2), draw(1, 2), draw(2, 0))
