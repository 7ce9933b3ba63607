"""A probe that is not linear."""

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.metrics.kernel_probe import fit_kernel_probe
from gen_jax.metrics.probe import fit_linear_probe


def rings(count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = 1.0 + labels + 0.1 * rng.normal(size=count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), labels * 4 + 3


def test_it_tells_what_no_line_divides():
    (x, y), (queries, truth) = rings(300, 0), rings(200, 1)
    probe = fit_kernel_probe(x, y)
    assert (probe(queries) == truth).mean() > 0.97
    assert (np.asarray(fit_linear_probe(x, y)(queries).label) == truth).mean() < 0.7


def test_each_row_left_out_is_what_refitting_gives():
    x, y = rings(60, 2)
    y = np.where(np.arange(60) % 5 == 0, 7 - y + 3, y)  # some are wrong
    probe = fit_kernel_probe(x, y)
    kernel = np.exp(-np.square(x[:, None] - x[None]).sum(-1) / probe.width)
    classes, index = np.unique(y, return_inverse=True)
    weight = (60 / 2 / np.bincount(index))[index]
    target = np.eye(2)[index] - 0.5
    # The ridge that was chosen, from (K + ridge / weight) weights = target.
    ridge = (((target - kernel @ probe.weights) / probe.weights) * weight[:, None])[0, 0]
    right = []
    for i in range(60):
        kept = np.arange(60) != i
        system = kernel[kept][:, kept] + np.diag(ridge / weight[kept])
        said = kernel[i, kept] @ np.linalg.solve(system, target[kept])
        right.append(classes[said.argmax()] == y[i])
    assert np.average(right, weights=weight) == pytest.approx(probe.left_out_accuracy, abs=1e-9)


def test_a_rare_class_weighs_as_much():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(15, 2)) + 1.5])
    y = np.repeat([0, 1], [300, 15])
    named = fit_kernel_probe(x, y)(rng.normal(size=(400, 2)) + 1.5)
    assert (named == 1).mean() > 0.75


def test_one_class_is_refused():
    with pytest.raises(UserError, match="two different"):
        fit_kernel_probe(np.zeros((3, 2)), np.ones(3, int))
