"""Calibration of error maps: guarantees on new scenes, and too few of them."""

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.evaluation import calibration
from gen_jax.evaluation.calibration import Example


def scenes(count, skill=1.0, seed=0):
    """Draws errors of a Laplace scale that is known to a degree."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(count):
        scale = np.exp(rng.normal(1.0, 0.5) + rng.normal(0.0, 1.0, (24, 24)))
        guess = np.exp(skill * np.log(scale) + (1 - skill) * rng.normal(1.0, 1.0, scale.shape))
        made.append(Example(np.float32(guess), np.float32(rng.exponential(scale))))
    return made


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_the_risk_on_new_scenes_is_bounded(alpha):
    found = scenes(120)
    chosen = calibration.calibrate(found, alpha, 0.1, 4.0)
    # Laplace: the share beyond k scales is exp(-k).
    assert -np.log(alpha) <= chosen["factor"] < -1.3 * np.log(alpha)
    assert chosen["risk"] <= alpha and chosen["outside"] <= alpha
    halves = calibration.coverage(found, alpha, 0.1, 4.0, splits=6)
    assert halves["risk"] <= alpha + 2 * halves["risk_error"]
    assert halves["holds"] == 1.0


def test_a_better_map_trusts_more():
    areas = [
        calibration.calibrate(scenes(60, skill), 0.05, 0.1, 4.0)["area"] for skill in (1.0, 0.2)
    ]
    assert areas[0] > areas[1] + 0.1


def test_too_few_scenes_are_said():
    with pytest.raises(UserError, match=r"n too small: alpha=0\.1 needs at least 9 images"):
        calibration.calibrate(scenes(8), 0.1, 0.1, 4.0)
    assert calibration.calibrate(scenes(9), 0.1, 0.1, 4.0)["threshold"] is not None
