"""Ranges of numbers, and how messages word them."""

import math

import pytest

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.common.ranges import Range, check_range


@pytest.mark.parametrize(
    "allowed,words,outside",
    [
        (Range(), "a finite number", math.nan),
        (Range(0, 1), "a number from 0 to 1", 1.1),
        (Range(0, 1, open_high=True), "a number from 0 to below 1", 1.0),
        (Range(0, 1, open_low=True), "a number above 0 and at most 1", 0.0),
        (Range(0, 1, True, True), "a number above 0 and below 1", 1.0),
        (Range(0.25), "a number of at least 0.25", 0.2),
        (Range(0, open_low=True), "a number above 0", 0.0),
        (Range(high=3), "a number of at most 3", 4.0),
        (Range(high=3, open_high=True), "a number below 3", 3.0),
    ],
)
def test_a_range_in_words(allowed, words, outside):
    assert allowed.words() == words
    with pytest.raises(UserError, match=f"^x=.*: expected {words}$"):
        check_range(outside, allowed, "x")


def test_flags_and_configs_word_ranges_alike():
    for low, high in ((0, 2**63 - 1), (1, None), (None, 7), (None, None)):
        allowed = Range(-math.inf if low is None else low, math.inf if high is None else high)
        with pytest.raises(UserError) as caught:
            numbers.parse("x", "n", int, low, high)
        assert str(caught.value) == f"n=x: expected {allowed.words(int)}"
    assert Range(0, 2**63 - 1).words(int) == "a whole number from 0 to 9223372036854775807"
