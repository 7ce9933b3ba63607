import numpy as np
import pytest
from sklearn import metrics as reference

from gen_jax.metrics import segmentation


def test_iou_and_f1_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    target, predicted = rng.integers(0, 4, (2, 3, 20, 20))
    predicted = np.where(rng.random(target.shape) < 0.6, target, predicted)
    counts = segmentation.confusion(predicted, target, 4)
    pair = target.ravel(), predicted.ravel()
    np.testing.assert_array_equal(counts, reference.confusion_matrix(*pair))
    want = reference.jaccard_score(*pair, average=None)
    np.testing.assert_allclose(segmentation.iou(counts), want, rtol=1e-12)
    np.testing.assert_allclose(
        segmentation.f1(counts), reference.f1_score(*pair, average=None), rtol=1e-12
    )
    assert segmentation.mean_iou(counts) == pytest.approx(want.mean())


def test_ignored_pixels_and_absent_classes_do_not_count():
    target, predicted = np.array([[0, 255, 1, 1]]), np.array([[0, 1, 1, 0]])
    counts = segmentation.confusion(predicted, target, 3)
    assert counts.sum() == 3 and np.isnan(segmentation.iou(counts)[2])
    assert segmentation.mean_iou(counts) == pytest.approx(0.5)


def test_boundaries_and_their_f_measure_agree_with_all_pairs_of_pixels():
    rng = np.random.default_rng(1)
    a = np.kron(rng.integers(0, 2, (4, 4)), np.ones((5, 5), int))
    b = np.roll(a, (1, 2), (0, 1))
    edges = [segmentation.boundaries(x) for x in (a, b)]
    by_hand = np.zeros(a.shape, bool)
    for y, x in np.ndindex(a.shape):
        neighbors = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
        inside = [(min(i, 19), min(j, 19)) for i, j in neighbors]
        by_hand[y, x] = any(a[y, x] != a[p] for p in inside)
    np.testing.assert_array_equal(edges[0], by_hand)
    points = [np.argwhere(e) for e in edges]
    apart = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
    precision, recall = (apart.min(1) <= 1.5).mean(), (apart.min(0) <= 1.5).mean()
    want = 2 * precision * recall / (precision + recall)
    assert segmentation.boundary_f(*edges, 1.5) == pytest.approx(want)
    empty = np.zeros_like(edges[0])
    assert segmentation.boundary_f(empty, empty, 1) == 1.0
    assert segmentation.boundary_f(empty, edges[0], 1) == 0.0
