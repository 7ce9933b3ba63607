import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.metrics.knn import balanced_accuracy, knn_votes
from gen_jax.metrics.probe import fit_linear_probe


def blobs(sizes, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return 3 * np.eye(len(sizes), 6)[labels] + rng.normal(size=(len(labels), 6)), labels


def test_votes_agree_with_a_loop():
    x, y = blobs((12, 15, 18))
    q, _ = blobs((4, 4, 4), seed=1)
    votes = knn_votes(x, y, q, k=5, temperature=0.1)
    unit = lambda v: v / np.linalg.norm(v)  # noqa: E731
    for row, got in zip(q, votes):
        s = np.array([unit(row - x.mean(0)) @ unit(v - x.mean(0)) for v in x])
        want = np.zeros(3)
        for i in np.argsort(-s)[:5]:
            want[y[i]] += np.exp(s[i] / 0.1)
        np.testing.assert_allclose(got, want, rtol=1e-3)


def test_balancing_hears_a_small_class():
    x, y = blobs((300, 20))
    q, labels = blobs((100, 100), seed=1)
    plain, fair = (
        balanced_accuracy(labels, knn_votes(x, y, q, balanced=b).argmax(1)) for b in (False, True)
    )
    assert fair > plain and fair > 0.9
    a, b = (fit_linear_probe(x, y, balanced=b)(q).label for b in (False, True))
    assert balanced_accuracy(labels, b) >= balanced_accuracy(labels, a) > 0.8


def test_a_balanced_probe_of_equal_classes_is_the_plain_one():
    x, y = blobs((20, 20))
    a, b = (fit_linear_probe(x, y, balanced=b) for b in (False, True))
    np.testing.assert_allclose(a.weights, b.weights, atol=1e-10)
    assert a.left_out_accuracy == b.left_out_accuracy


def test_balanced_accuracy_weighs_classes_alike():
    assert balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])) == 0.5


def test_too_few_rows_are_named():
    with pytest.raises(UserError, match="k=20 neighbours of 5 rows"):
        knn_votes(np.ones((5, 2)), np.zeros(5, int), np.ones((1, 2)))
