"""Ways through latents."""

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.pipelines.interpolation import walk

POINTS = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
POINTS /= np.linalg.norm(POINTS, axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("path", ["slerp", "lerp"])
def test_a_walk_meets_every_point(path):
    way = walk(POINTS, 31, path)
    assert way.shape == (31, 2, 3) and way.dtype == np.float32
    np.testing.assert_allclose(way[::10], POINTS, atol=1e-6)
    steps = np.linalg.norm((way[1:] - way[:-1]).reshape(30, -1), axis=1).reshape(3, 10)
    np.testing.assert_allclose(steps / steps.mean(1, keepdims=True), 1.0, atol=1e-3)


def test_a_great_circle_keeps_the_length_and_a_straight_way_does_not():
    a, b = POINTS[:2]
    length = np.linalg.norm(walk(np.stack([a, b]), 9).reshape(9, -1), axis=1)
    np.testing.assert_allclose(length, 1.0, atol=1e-5)
    middle = np.linalg.norm(walk(POINTS[:2], 9, "lerp")[4])
    assert middle < length[4]
    np.testing.assert_allclose(walk(np.stack([a, a]), 3), [a, a, a], atol=1e-6)


def test_another_path_is_refused():
    with pytest.raises(UserError, match=r"^path=round: expected slerp or lerp"):
        walk(POINTS, 3, "round")
