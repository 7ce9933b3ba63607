import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_jax.data.load import order


def _order(positions, size, seed, shuffle=True):
    return order.example_order(np.asarray(positions, np.int64), size, seed, shuffle)


@given(st.integers(1, 700), st.integers(0, 2**40), st.integers(0, 50))
def test_every_epoch_is_a_permutation(size, seed, epoch):
    found = _order(np.arange(size) + epoch * size, size, seed)
    assert sorted(found.tolist()) == list(range(size))


@given(st.integers(2, 10**12), st.integers(0, 2**63 - 1), st.lists(st.integers(0, 2**45)))
def test_a_position_needs_nothing_but_itself(size, seed, positions):
    together = _order(positions, size, seed)
    assert ((together >= 0) & (together < size)).all()
    alone = [int(_order([p], size, seed)[0]) for p in positions]
    assert together.tolist() == alone


def test_order_is_fixed_for_ever():
    # A resumed run depends on it: these numbers must never change.
    assert _order(range(8), 8, 0).tolist() == [6, 4, 1, 5, 0, 7, 2, 3]
    assert _order([0, 1, 2, 1_000_003], 1_000_000, 42).tolist() == [617752, 704861, 790361, 963798]


def test_epochs_and_seeds_differ_and_neighbours_are_unrelated():
    size = 4096
    orders = [_order(np.arange(size) + e * size, size, s) for s in (0, 1) for e in (0, 1)]
    for i in range(4):
        for j in range(i):
            assert (orders[i] == orders[j]).sum() < 12  # one agreement is expected by chance
        assert abs(np.corrcoef(np.arange(size), orders[i])[0, 1]) < 0.06
        assert (np.abs(np.diff(orders[i])) == 1).sum() < 12


def test_unshuffled_order_repeats():
    assert _order(range(5), 3, 0, shuffle=False).tolist() == [0, 1, 2, 0, 1]


@given(st.integers(0, 10**9), st.integers(1, 6), st.integers(0, 4))
def test_rows_of_processes_make_up_the_batch(step, rows, power):
    count = 2**power
    batch = rows * count
    parts = [order.rows_of_process(step, batch, p, count) for p in range(count)]
    assert np.concatenate(parts).tolist() == list(range(step * batch, (step + 1) * batch))


def test_augmentation_depends_on_seed_and_position_only():
    draw = [order.augmentation_rng(s, p).random() for s, p in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert draw[0] == draw[3]
    assert len(set(draw)) == 3
    assert draw[0] == pytest.approx(0.011546754286331562)
