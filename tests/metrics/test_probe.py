"""The linear probe: exact left-out scores, calibrated confidence, chance on nonsense."""

import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.metrics.probe import fit_linear_probe


def blobs(seed, n, gap, classes=(2, 5, 9), d=12):
    random = np.random.RandomState(seed)
    centres = np.random.RandomState(99).randn(len(classes), d)
    index = random.randint(0, len(classes), n)
    return gap * centres[index] + random.randn(n, d), np.array(classes)[index]


def test_it_reads_separable_classes():
    x, y = blobs(0, 200, gap=3.0)
    probe = fit_linear_probe(jnp.asarray(x), jnp.asarray(y))
    test_x, test_y = blobs(1, 300, gap=3.0)
    said = probe(jnp.asarray(test_x))
    assert (said.label == test_y).mean() > 0.98
    assert set(said.label) <= {2, 5, 9}
    assert said.confidence.min() > 1 / 3 and said.confidence.max() <= 1


def test_left_out_accuracy_and_confidence_are_honest():
    x, y = blobs(0, 150, gap=0.5)
    probe = fit_linear_probe(x, y)
    test_x, test_y = blobs(1, 4000, gap=0.5)
    said = probe(test_x)
    accuracy = (said.label == test_y).mean()
    assert 0.5 < accuracy < 0.95
    assert abs(probe.left_out_accuracy - accuracy) < 0.1
    assert abs(said.confidence.mean() - accuracy) < 0.1


def test_nonsense_labels_leave_it_at_chance():
    random = np.random.RandomState(0)
    x, y = random.randn(100, 200), random.randint(0, 2, 100)
    probe = fit_linear_probe(x, y)
    assert abs(probe.left_out_accuracy - 0.5) < 0.2
    assert probe(random.randn(500, 200)).confidence.mean() < 0.8


def test_left_out_scores_are_those_of_refitting():
    """The accuracy claimed without refitting is that of refitting without each row."""
    x, y = blobs(3, 60, gap=0.4, d=5)
    probe = fit_linear_probe(x, y)
    z = (x - probe.mean) / probe.scale
    one_hot = (y[:, None] == probe.classes[None]).astype(float)
    # Recover the ridge from the weights: (z'z + r) w = z'(targets).
    target = z.T @ (one_hot - probe.bias)
    ridge = np.sum((target - z.T @ z @ probe.weights) * probe.weights) / np.sum(probe.weights**2)
    right = 0
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        centre, bias = z[rest].mean(0), one_hot[rest].mean(0)
        a = z[rest] - centre
        w = np.linalg.solve(a.T @ a + ridge * np.eye(5), a.T @ (one_hot[rest] - bias))
        right += probe.classes[((z[i] - centre) @ w + bias).argmax()] == y[i]
    assert right / len(x) == pytest.approx(probe.left_out_accuracy, abs=1e-9)


def test_scale_of_the_features_does_not_matter():
    x, y = blobs(0, 100, gap=1.0)
    stretched = x * np.logspace(-3, 3, 12)[None] + 100
    np.testing.assert_array_equal(
        fit_linear_probe(x, y)(x).label, fit_linear_probe(stretched, y)(stretched).label
    )


def test_a_constant_feature_and_a_single_class():
    x, y = blobs(0, 50, gap=2.0)
    x[:, 0] = 7.0
    assert np.isfinite(fit_linear_probe(x, y)(x).confidence).all()
    with pytest.raises(UserError, match="two different"):
        fit_linear_probe(x, np.zeros(50, int))


def test_more_columns_than_rows_go_by_the_gram_matrix():
    x, y = np.random.default_rng(0).normal(size=(60, 9)), np.arange(60) % 3
    x[np.arange(60), y] += 1.0
    wide = np.concatenate([x, np.zeros((60, 100))], axis=1)
    narrow, other = fit_linear_probe(x, y), fit_linear_probe(wide, y)
    np.testing.assert_allclose(other.weights[:9], narrow.weights, rtol=1e-9)
    assert other.temperature == narrow.temperature
    assert other.left_out_accuracy == narrow.left_out_accuracy
