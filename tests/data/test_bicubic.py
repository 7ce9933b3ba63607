"""MATLAB's imresize: what holds of it exactly, and a dense matrix by the definition."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data.degradations.bicubic import imresize

SCALES = st.sampled_from([1 / 2, 1 / 3, 1 / 4, 0.7, 1.0, 1.3, 2.0, 3.0, 4.0])
quick = hypothesis.settings(max_examples=30, deadline=None, derandomize=True)


def kernel(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def matrix(length, scale):
    """[new length, length]: the kernel at every pixel of an image mirrored many times."""
    out = np.zeros((math.ceil(round(length * scale, 9)), length))
    wide, count = min(scale, 1), math.ceil(2 / min(scale, 1)) + 2
    for i in range(len(out)):
        centre = (i + 0.5) / scale - 0.5
        for x in range(int(centre) - count, int(centre) + count + 1):
            inside = x
            while not 0 <= inside < length:
                inside = -1 - inside if inside < 0 else 2 * length - 1 - inside
            out[i, inside] += wide * kernel(wide * (x - centre))
    return out / out.sum(1, keepdims=True)


@quick
@hypothesis.given(SCALES, st.integers(1, 19), st.integers(1, 19), st.sampled_from([1, 3]))
def test_is_the_definition(scale, h, w, channels):
    x = np.random.default_rng(h * w).uniform(-1, 2, (h, w, channels))
    rows, columns = matrix(h, scale), matrix(w, scale)
    want = np.einsum("ih,hwc,jw->ijc", rows, x, columns)
    np.testing.assert_allclose(imresize(x, scale), want, atol=1e-12)
    bits = np.random.default_rng(h * w).integers(0, 256, (h, w, channels)).astype(np.uint8)
    between = np.floor(np.clip(np.einsum("ih,hwc->iwc", rows, bits), 0, 255) + 0.5)
    want = np.floor(np.clip(np.einsum("jw,iwc->ijc", columns, between), 0, 255) + 0.5)
    have = imresize(bits, scale)
    # A sum that is a half by the definition may be a hair beside it.
    assert have.dtype == np.uint8 and np.mean(have != want) <= 0.02
    assert np.abs(have - want).max() <= 1


@quick
@hypothesis.given(SCALES, st.integers(1, 40), st.integers(0, 255))
def test_constants_stay(scale, side, value):
    x = np.full((side, side + 3, 3), value, np.uint8)
    assert (imresize(x, scale) == value).all()
    np.testing.assert_allclose(imresize(x / 255, scale), value / 255, atol=1e-13)


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_shrinking_keeps_the_mean_and_enlarging_gives_the_size_back(factor):
    x = np.random.default_rng(0).uniform(0, 1, (6 * factor, 7 * factor, 3))
    small = imresize(x, 1 / factor)
    assert small.shape == (6, 7, 3)
    np.testing.assert_allclose(small.mean((0, 1)), x.mean((0, 1)), rtol=1e-12)
    assert imresize(small, factor).shape == x.shape
    assert imresize(x[1:], 1 / factor).shape == (6, 7, 3)  # ceil


def test_enlarging_keeps_quadratics_inside():
    line = np.arange(20.0)
    x = np.broadcast_to((line**2 + 3 * line)[:, None, None], (20, 4, 1))
    places = (np.arange(60) + 0.5) / 3 - 0.5
    have = imresize(x, 3)[:, 5, 0]
    np.testing.assert_allclose(have[9:-9], (places**2 + 3 * places)[9:-9], atol=1e-10)


def test_a_single_white_pixel_does_not_leave_the_range_of_8_bits():
    x = np.zeros((9, 9, 1), np.uint8)
    x[4, 4] = 255
    big = imresize(x, 4)
    assert big.min() == 0 and big.max() > 200
    assert imresize(x.astype(np.float32), 4).min() < 0 and imresize(255 - x, 4).max() == 255


def test_mistakes_are_named():
    for scale in (0, -1, math.inf, math.nan):
        with pytest.raises(UserError, match="positive factor"):
            imresize(np.zeros((4, 4, 1)), scale)
