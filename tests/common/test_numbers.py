"""Numbers of users: bounds, what is not finite, seeds; strict JSON."""

import json
import math
import re

import pytest
from absl import flags

from gen_jax.common import numbers, strict_json
from gen_jax.common.errors import UserError
from tests.processes import ROOT


def test_what_is_not_finite_or_out_of_bounds_is_refused_with_the_range():
    not_floats = ("nan", "inf", "-inf", "1e999", "21", "-1", "", "x", math.nan, True)
    not_ints = ("1.5", "1e3", "21", "-1", 1.0, math.inf, None)
    for kind, value in [(float, v) for v in not_floats] + [(int, v) for v in not_ints]:
        with pytest.raises(UserError, match=r"--x=.*: expected a (whole )?number from 0 to 20$"):
            numbers.parse(value, "--x", kind, 0, 20)


def test_numbers_within_their_bounds_are_taken():
    assert numbers.parse("1e1", "--x", float, 0, 20) == 10.0
    assert numbers.parse("20", "--x", int, 0, 20) == 20


def test_seeds_end_where_their_noise_would_repeat():
    assert numbers.check_seed(2**32 - 1, "--seed") == 2**32 - 1
    for seed in (-1, 2**32, 2**64 - 1, 0.5, "1.0"):
        with pytest.raises(UserError, match=f"--seed={seed}: .* from 0 to 4294967295"):
            numbers.check_seed(seed, "--seed")
    with pytest.raises(UserError, match=r"--seed=4294967295: 2 seeds .* at most 4294967294"):
        numbers.check_seed(2**32 - 1, "--seed", count=2)


def test_flags_state_their_range():
    values = flags.FlagValues()
    flags.DEFINE(numbers._Parser(float, 0, 1), "rate", 0.5, "Rate.", flag_values=values)
    for text in ("nan", "2", "x"):
        with pytest.raises(flags.Error, match=f"--rate={text}: expected a number from 0 to 1"):
            values(["command", f"--rate={text}"])
    values(["command", "--rate=0.25"])
    assert values.rate == 0.25


def test_written_json_has_no_tokens_of_its_own_and_reads_back():
    text = strict_json.dumps({"a": [math.inf, -math.inf, math.nan], "b": (1, 0.5), "c": None})
    read = strict_json.loads(text)
    assert read == {"a": ["Infinity", "-Infinity", "NaN"], "b": [1, 0.5], "c": None}
    assert [float(v) for v in read["a"][:2]] == [math.inf, -math.inf]
    assert strict_json.loads("\ufeff{}") == {}
    for text in ("[NaN]", "[Infinity]", "[1e999]", "[-1e999]"):
        with pytest.raises(json.JSONDecodeError, match="not a finite number"):
            strict_json.loads(text)


def test_every_number_flag_of_every_command_has_a_range():
    for path in (ROOT / "gen_jax").glob("*.py"):
        assert not re.search(r"flags\.DEFINE_(float|integer)\(", path.read_text()), path.name
