"""CMMD, CLIPScore and the Vendi score against their definitions, written out."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.linalg

from gen_jax.common.errors import UserError
from gen_jax.metrics.clip_score import clip_score, cosine
from gen_jax.metrics.cmmd import cmmd, cmmd_interval
from gen_jax.metrics.vendi import vendi_score


def rows(seed, n, d, shift=0.0):
    return np.random.RandomState(seed).randn(n, d) + shift


def by_loops(x, y, unbiased=False):
    """The definition, pair by pair."""
    x, y = ([[v / math.hypot(*row) for v in row] for row in s.tolist()] for s in (x, y))

    def mean(a, b, same):
        values = [
            math.exp(-sum((p - q) ** 2 for p, q in zip(u, v)) / (2 * 10**2))
            for i, u in enumerate(a)
            for j, v in enumerate(b)
            if not (same and unbiased and i == j)
        ]
        return sum(values) / len(values)

    return 1000 * (mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False))


@pytest.mark.parametrize("unbiased", [False, True])
def test_cmmd_is_the_double_loop(unbiased):
    x, y = rows(0, 12, 5), rows(1, 9, 5, shift=0.5)
    np.testing.assert_allclose(cmmd(x, y, unbiased), by_loops(x, y, unbiased), rtol=1e-9)


def test_cmmd_is_the_published_programs_in_float32():
    """The way of google-research/cmmd: norms and products in float32, kernels averaged whole."""
    x, y = rows(0, 60, 16), rows(1, 50, 16, shift=0.4)
    a, b = ((v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in (x, y))

    def mean(u, v):
        square = -2 * u @ v.T + (u**2).sum(1)[:, None] + (v**2).sum(1)[None]
        return np.exp(-square / 200).mean(dtype=np.float32)

    want = 1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))
    np.testing.assert_allclose(cmmd(x, y), want, atol=1e-3)


def test_cmmd_of_the_same_and_of_ever_further_sets():
    x = rows(0, 300, 8)
    assert abs(cmmd(x, x)) < 1e-9
    assert cmmd(x, x, unbiased=True) <= 0
    values = [cmmd(x, rows(1, 300, 8, shift)) for shift in (0.0, 0.3, 1.0, 3.0)]
    assert values == sorted(values) and values[0] > 0
    # A row's length says nothing.
    np.testing.assert_allclose(cmmd(7 * x, x), 0, atol=1e-9)
    # Leaving the diagonal out takes the bias away: the mean over equal draws is 0.
    draws = np.array([cmmd(rows(i, 20, 8), rows(i + 500, 20, 8), True) for i in range(200)])
    assert abs(draws.mean()) < 4 * draws.std() / np.sqrt(200)


def test_cmmd_interval_covers_the_spread_of_repeated_sets():
    reference = rows(0, 1000, 6)
    values = [cmmd(reference, rows(i, 200, 6, 0.5)) for i in range(1, 60)]
    interval = cmmd_interval(reference, rows(1, 200, 6, 0.5))
    assert interval.low < interval.value < interval.high
    spread = np.quantile(values, 0.975) - np.quantile(values, 0.025)
    assert 0.6 < (interval.high - interval.low) / spread < 1.7
    with pytest.raises(UserError, match="at least 2"):
        cmmd(reference[:1], reference)


def test_clip_score_is_two_and_a_half_cosines_and_never_negative():
    images = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    texts = np.array([[1.0, 0.0], [5.0, 0.0], [0.0, -1.0]])
    np.testing.assert_allclose(cosine(images, texts), [1, math.sqrt(0.5), -1])
    np.testing.assert_allclose(clip_score(images, texts), [2.5, 2.5 * math.sqrt(0.5), 0])


def test_vendi_of_closed_forms():
    one = np.tile(rows(0, 1, 6), (10, 1)) * np.arange(1, 11)[:, None]
    np.testing.assert_allclose(vendi_score(one), 1, rtol=1e-9)
    np.testing.assert_allclose(vendi_score(np.eye(7)), 7, rtol=1e-9)
    # Groups of unequal size: the exponential of the entropy of their shares.
    shares = np.repeat(np.arange(3), (5, 3, 2))
    want = math.exp(-sum(p * math.log(p) for p in (0.5, 0.3, 0.2)))
    np.testing.assert_allclose(vendi_score(np.eye(3)[shares]), want, rtol=1e-9)
    with pytest.raises(UserError, match="none all zero"):
        vendi_score(np.zeros((3, 2)))


@hypothesis.settings(max_examples=10, deadline=None, derandomize=True)
@hypothesis.given(seed=st.integers(0, 1000), n=st.integers(2, 20), d=st.integers(2, 20))
def test_vendi_is_the_definition_and_within_its_bounds(seed, n, d):
    x = rows(seed, n, d)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    kernel = unit @ unit.T / n
    # The entropy of a matrix needs no eigenvalues: -tr(K log K).
    log = scipy.linalg.logm(kernel + 1e-14 * np.eye(n))
    score = vendi_score(x)
    np.testing.assert_allclose(score, math.exp(-np.trace(kernel @ log).real), rtol=1e-6)
    assert 1 - 1e-9 <= score <= min(n, d) + 1e-9
    np.testing.assert_allclose(vendi_score(np.concatenate([x, x])), score, rtol=1e-9)
