"""Epochs as steps: when a run evaluates, saves and ends."""

import dataclasses
import math
from fractions import Fraction

import pytest

from gen_jax.common.errors import UserError
from gen_jax.training.cadence import Cadence, epoch_of, in_epochs
from gen_jax.training.patience import Patience
from gen_jax.training.schedule import Schedule


def cadence(num_records=40, **changes):
    return Cadence.of(Schedule(**{"num_steps": 100, "batch_size": 16, **changes}), num_records)


def steps(happens, count=12):
    return [step for step in range(1, count + 1) if happens(step)]


def test_epochs_of_two_and_a_half_steps_do_not_drift():
    c = cadence(num_epochs=4.0, eval_every_epochs=1.0, keep_every_epochs=2.0, eval_every=7)
    assert c.num_steps == 10 and steps(c.is_evaluation, 10) == [3, 5, 8, 10]
    assert steps(c.is_kept, 10) == [5, 10] and steps(c.is_checkpoint, 10) == [3, 5, 8, 10]
    assert [c.epoch(step) for step in (1, 5, 7)] == [0.4, 2.0, 2.8]
    numbers = [epoch_of(step, c.steps_per_epoch) for step in range(1, 11)]
    assert numbers == [1, 1, 1, 2, 2, 3, 3, 3, 4, 4]
    assert in_epochs(1, Fraction(3)) == 0.3333


def test_a_decimal_fraction_of_an_epoch_is_exact():
    c = cadence(num_records=160, num_epochs=1.1, checkpoint_every_epochs=0.1)
    assert c.num_steps == 11 and steps(c.is_checkpoint, 11) == list(range(1, 12))
    assert cadence(num_epochs=1.0).num_steps == 3


def test_without_epochs_the_steps_count():
    c = cadence(num_records=0, eval_every=5, checkpoint_every=4, num_steps=11, log_every=6)
    assert c.num_steps == 11 and c.epoch(3) is None
    assert steps(c.is_evaluation, 11) == [5, 10, 11]
    assert steps(c.is_checkpoint, 11) == [4, 5, 8, 10, 11]
    assert steps(c.is_kept) == [] and steps(c.is_log, 11) == [6, 11]


def test_the_end_of_an_epoch_is_logged_unless_epochs_are_short():
    assert steps(cadence(num_records=168, log_every=7).is_log, 22) == [7, 11, 14, 21]
    assert steps(cadence(log_every=7).is_log, 22) == [7, 14, 21]


@pytest.mark.parametrize(
    "num_records,changes,words",
    [
        (8, {"num_epochs": 3.0}, "num_epochs=3.0: an epoch is less than one step, because an epoch "
         "of 8 training records has 0.5 steps of batch_size=16"),
        (40, {"eval_every_epochs": 0.1}, "eval_every_epochs=0.1: the interval is less than one "
         "step, because an epoch of 40 training records has 2.5 steps"),
        (0, {"keep_every_epochs": 1.0}, "keep_every_epochs=1.0: the number of training records"),
    ],
)  # fmt: skip
def test_less_than_a_step_is_refused(num_records, changes, words):
    with pytest.raises(UserError) as caught:
        cadence(num_records, **changes)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"num_epochs": -1.0}, "num_epochs=-1.0: expected a number of at least 0"),
        ({"patience": 2, "eval_every": 1}, "patience=2 needs config.training.best_metric"),
        ({"patience": 2, "best_metric": "a/b"}, "set config.training.eval_every or eval_every_ep"),
    ],
)
def test_numbers_that_do_not_fit(changes, words):
    schedule = dataclasses.replace(Schedule(num_steps=1, batch_size=1), **changes)
    with pytest.raises(UserError, match=words):
        schedule.check_numbers()


def test_patience_counts_evaluations_that_are_no_better():
    schedule = Schedule(num_steps=1, batch_size=1, patience=2, best_metric="a/b")
    patience, counts = Patience(schedule), []
    for step, value in enumerate((math.nan, 3.0, 3.0, 2.0, math.inf, 1.0, 4.0, 5.0), 1):
        patience.update(step, {"a/b": value, "a/c": 0.0})
        patience.update(step, {"a/b": -9.0})  # a step counts once
        patience.update(step + 1, {"a/c": -9.0})  # measured nothing to compare
        counts.append(patience.record()["count"])
        assert patience.is_over == (step == 8)
    assert counts == [1, 0, 1, 0, 1, 0, 1, 2]
    assert Patience(schedule, patience.record()).is_over
    other = dataclasses.replace(schedule, best_metric="a/c")
    assert not Patience(other, patience.record()).is_over
    assert not Patience(schedule).is_over and Patience(schedule).lacks(1)
