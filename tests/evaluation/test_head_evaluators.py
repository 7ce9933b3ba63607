"""Evaluators of domain heads, on predictions that are known."""

import numpy as np
import pytest

from gen_jax.common.errors import NoSplit, UserError
from gen_jax.data.text.plate_characters import encode
from gen_jax.evaluation import Predictor, build_evaluators
from gen_jax.evaluation.change import Change
from gen_jax.evaluation.landmarks import Landmarks
from gen_jax.evaluation.plates import Plates
from gen_jax.evaluation.segmentation import Segmentation
from gen_jax.tasks import build_task
from tests.evaluation import known


class Read(Predictor):
    """Gives rows of known arrays, whatever the images."""

    def __init__(self, head, **out):
        self.task = build_task({"name": "heads", "head": {"name": head}, "image_size": 32})
        self._out = out

    def batched(self, name, batch, batch_size):
        assert name == "read" and set(batch) == set(self.task.head.inputs)
        return self._out


class Split(known.Known):
    """One split with known arrays."""

    def __init__(self, split="val", **batch):
        self._split, self._batch = split, batch

    def read(self, split, count):
        if split != self._split:
            raise NoSplit(split)
        return self._batch


def test_segmentation_counts_pixels_and_boundaries():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    mask = np.zeros((6, 32, 32), np.uint8)
    mask[:, 8:24, 8:24] = 1
    mask[:, :2] = 255
    wrong = mask.copy()
    wrong[:, 8:24, 8:12] = 0
    perfect = np.where(mask == 255, 1, mask).astype(np.uint8)
    evaluator = Segmentation(shown=2)
    result = evaluator(Read("segmentation", mask=perfect), Split(image=images, mask=mask))
    assert result.metrics["miou"] == result.metrics["boundary_f"] == 1.0
    assert result.pictures["masks"].dtype == np.uint8
    result = evaluator(Read("segmentation", mask=wrong), Split(image=images, mask=mask))
    outside = 30 * 32 - 256
    assert result.metrics["iou_1"] == pytest.approx(0.75)
    assert result.metrics["iou_0"] == pytest.approx(outside / (outside + 64))
    assert result.metrics["miou_constant"] == pytest.approx(outside / (30 * 32) / 2)
    assert result.metrics["boundary_f"] < 1.0
    mask[0, 9, 9] = 2
    with pytest.raises(UserError, match=r"masks have the class 2, and config.task.head.classes=2"):
        evaluator(Read("segmentation", mask=wrong), Split(image=images, mask=mask))


def test_plates_count_texts_by_height_and_by_confidence():
    truth = ["AB12", "CD34"] * 20
    read = ["AB12", "CD35"] * 20
    text, batch_text = (np.stack([encode(t) for t in rows]) for rows in (read, truth))
    confidence = np.where(np.arange(40) % 2, 0.6, 0.95).astype(np.float32)
    height = np.where(np.arange(40) < 20, 15, 30)
    images = np.zeros((40, 8, 32, 3), np.uint8)
    result = Plates()(
        Read("plates", text=text, confidence=confidence),
        Split(image=images, text=batch_text, height=height),
    )
    m = result.metrics
    assert m["plate_exact"] == m["plate_exact_0_16"] == m["plate_exact_28_1000"] == 0.5
    assert "plate_exact_16_20" not in m
    assert m["plate_char"] == pytest.approx(7 / 8)
    assert m["coverage_at_90"] == m["coverage_at_99"] == 0.5
    assert m["ece"] == pytest.approx(0.5 * 0.05 + 0.5 * 0.6, abs=1e-6)


def test_change_counts_changed_pixels_and_false_alarms():
    images = np.zeros((4, 32, 32, 3), np.uint8)
    mask, found = np.zeros((2, 4, 32, 32), np.uint8)
    mask[:2, :8, :8], found[:2, :8, :4] = 1, 1
    found[3, 0, :6] = 1  # a false alarm on one of two unchanged pairs
    result = Change()(Read("change", mask=found), Split(before=images, after=images, mask=mask))
    m = result.metrics
    assert m["change_iou"] == pytest.approx(64 / (128 + 6))
    assert m["change_f1"] == pytest.approx(2 * 64 / (64 + 6 + 128))
    assert m["false_alarm_rate"] == 0.5
    assert result.pictures["changes"].ndim == 3


def test_landmarks_are_measured_by_the_distance_of_the_eyes():
    truth = np.zeros((10, 5, 2), np.float32)
    truth[:, 0, 0], truth[:, 1, 0] = 0.3, 0.7
    truth[:, 2:] = 0.5
    wrong = truth.copy()
    wrong[:2, :, 1] += 0.04  # a tenth of the distance between the eyes
    images = np.zeros((10, 32, 32, 3), np.uint8)
    result = Landmarks(count=10)(Read("landmarks", points=wrong), Split(image=images, points=truth))
    assert result.metrics["nme"] == pytest.approx(0.02)
    assert result.metrics["failure_rate"] == pytest.approx(0.2)
    assert result.metrics["auc"] == pytest.approx(0.8)
    assert result.metrics["nme_constant"] == pytest.approx(0.0, abs=1e-6)


def test_a_held_out_split_that_is_missing_is_said():
    images, mask = np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 32, 32), np.uint8)

    data = Split("train", image=images, mask=mask)
    result = Segmentation()(Read("segmentation", mask=mask), data)
    assert "no split 'val'" in result.warnings[0]


def test_evaluators_are_built_by_name():
    built = build_evaluators({"segmentation": {"count": 3}, "plates": {}}, "heads")
    assert built["segmentation"] == ("heads", Segmentation(count=3))
