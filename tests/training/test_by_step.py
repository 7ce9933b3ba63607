"""Metrics of many parts over the evaluations of a run."""

import numpy as np
from PIL import Image

from gen_jax.common import pictures
from gen_jax.training.by_step import by_step


def test_parts_are_put_side_by_side_and_a_repeated_step_counts_once():
    lines = [
        {"step": 5, "art/accuracy/dark": 0.5, "art/accuracy/bright": 0.6, "art/kid": 1.0},
        {"step": 7, "model/loss": 1.0},
        {"step": 10, "art/accuracy/dark": 0.7, "other/accuracy/dark": 0.0},
        {"step": 10, "art/accuracy/dark": 0.8},
        {"step": 10, "art/once/x": 1.0},
    ]
    (found,) = by_step(lines, "art").items()
    name, (parts, steps, values) = found
    assert (name, parts, steps) == ("accuracy", ("bright", "dark"), (5, 10))
    np.testing.assert_array_equal(values, [[0.6, np.nan], [0.5, 0.8]])


def test_the_table_is_drawn(tmp_path):
    values = np.array([[0.6, np.nan], [0.5, 0.8]])
    pictures.plot_table(tmp_path / "a.png", "t", ("bright", "dark"), (5, 10), values)
    with Image.open(tmp_path / "a.png") as picture:
        assert len(picture.getcolors(1 << 20)) > 3, "nothing is coloured"
