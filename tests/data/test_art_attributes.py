"""What is measured of a picture, on pictures of which the answer is known."""

import numpy as np
import pytest

from gen_jax.data.text import art_attributes as art

SIDE = 128
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE] / SIDE


def gray(values):
    """A picture of luma 0 to 1."""
    return (np.clip(values, 0, 1)[..., None].repeat(3, -1) * 255).astype(np.uint8)


def flat(r, g, b):
    return np.broadcast_to(np.array([r, g, b], np.uint8), (SIDE, SIDE, 3))


def test_every_name_has_a_number():
    values = art.measure(np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8))
    assert tuple(values) == art.NAMES
    assert np.isfinite(list(values.values())).all()
    assert art.as_vector(values).shape == (len(art.NAMES),)


def test_flat_colours():
    values = art.measure(flat(51, 51, 51))
    assert values["brightness"] == pytest.approx(0.2, abs=0.01)
    for name in ("scale", "direction", "swirl", "symmetry", "order"):
        assert np.isnan(values[name]), name
    for name in ("contrast", "colourfulness", "detail", "warmth", *art.HUES):
        assert values[name] == pytest.approx(0.0, abs=1e-3), name
    assert art.measure(flat(255, 0, 0))["warmth"] == pytest.approx(1.0)


@pytest.mark.parametrize("rgb,hue", [
    ((255, 0, 0), "red"), ((255, 0, 60), "red"), ((255, 128, 0), "orange"),
    ((255, 255, 0), "yellow"), ((0, 255, 0), "green"), ((0, 0, 255), "blue"),
    ((0, 200, 255), "blue"), ((200, 0, 255), "purple"),
])  # fmt: skip
def test_each_hue_has_its_name(rgb, hue):
    values = art.measure(flat(*rgb))
    assert values[hue] == pytest.approx((max(rgb) - min(rgb)) / 255, abs=0.01)
    assert sum(values[h] for h in art.HUES) == pytest.approx(values[hue], abs=1e-4)


def test_direction_of_stripes_and_order():
    lying = art.measure(gray(0.5 + 0.4 * np.sin(40 * ROWS)))
    upright = art.measure(gray(0.5 + 0.4 * np.sin(40 * COLUMNS)))
    noise = art.measure(gray(np.random.default_rng(0).random((SIDE, SIDE))))
    assert lying["direction"] > 0.95 and upright["direction"] < -0.95
    assert abs(noise["direction"]) < 0.1
    assert min(lying["order"], upright["order"]) > 0.9 > 0.05 > noise["order"]


def test_rings_swirl_and_stripes_do_not():
    rings = art.measure(gray(0.5 + 0.4 * np.sin(60 * np.hypot(ROWS - 0.5, COLUMNS - 0.5))))
    stripes = art.measure(gray(0.5 + 0.4 * np.sin(40 * (ROWS + COLUMNS))))
    noise = art.measure(gray(np.random.default_rng(0).random((SIDE, SIDE))))
    assert rings["swirl"] > 0.6 > 0.3 > max(stripes["swirl"], noise["swirl"])


def test_scale_is_of_size_and_not_of_contrast():
    fine, coarse, faint = (
        art.measure(gray(0.5 + c * np.sin(f * COLUMNS)))["scale"]
        for f, c in ((60, 0.4), (12, 0.4), (12, 0.1))
    )
    assert coarse > fine + 1.0 and faint == pytest.approx(coarse, abs=0.2)


def test_symmetry_is_about_either_axis():
    picture = np.random.default_rng(0).random((SIDE, SIDE // 2))
    smooth = np.repeat(np.repeat(picture[::8, ::8], 8, 0), 8, 1)
    assert art.measure(gray(np.hstack([smooth, smooth[:, ::-1]])))["symmetry"] > 0.99
    both = np.hstack([smooth, smooth[:, ::-1]]).T
    assert art.measure(gray(both))["symmetry"] > 0.99
    assert art.measure(gray(np.hstack([smooth, 1 - smooth[:, ::-1]])))["symmetry"] < 0.5


def test_the_same_at_any_size():
    rng = np.random.default_rng(0)
    small = np.repeat(np.repeat(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8), 1, 0), 1, 1)
    large = small.repeat(4, 0).repeat(4, 1)
    a, b = (art.as_vector(art.measure(p)) for p in (small, large))
    np.testing.assert_allclose(a, b, atol=1e-3)
