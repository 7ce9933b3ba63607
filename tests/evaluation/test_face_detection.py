"""The face detector: facenet-pytorch's answers, and pictures that are hard on it."""

import json
import pathlib

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data.prepare.sources import photos
from gen_jax.encoders import face_detector
from gen_jax.encoders.face_detector import FaceDetector

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "mtcnn.json"


@pytest.fixture(scope="module")
def detector(shared):
    return FaceDetector(shared / "weights_small.zip:mtcnn_pnet.safetensors")


def test_faces_and_points_are_those_of_the_reference(detector):
    astronaut = photos.load("astronaut.png")[:256, 100:356]
    images = np.stack([astronaut, astronaut[:, ::-1], photos.load("coffee.png")[:256, :256]])
    found = detector(images)
    for faces, want in zip(found, json.loads(GOLDEN.read_text()), strict=True):
        assert len(faces) == len(want["boxes"])
        order = np.argsort([-box[4] for box in want["boxes"]])
        for face, index in zip(faces, order, strict=True):
            np.testing.assert_allclose(face.box, want["boxes"][index][:4], atol=1e-2)
            np.testing.assert_allclose(face.points, want["points"][index], atol=1e-2)
            assert face.probability == pytest.approx(want["boxes"][index][4], abs=1e-4)
    assert found[0] and not found[2], "the reference is not what it is said to be"
    # Left and right are the picture's.
    left, right, nose, *mouth = found[0][0].points
    assert left[0] < nose[0] < right[0] and max(left[1], right[1]) < nose[1]
    assert all(corner[1] > nose[1] for corner in mouth)


def test_a_picture_is_judged_alone(detector):
    image = photos.load("astronaut.png")[:256, 100:356]
    noise = np.random.default_rng(0).integers(0, 255, image.shape).astype(np.uint8)
    whole = detector(np.stack([noise, image]))
    alone = detector(image[None])
    np.testing.assert_allclose(whole[1][0].box, alone[0][0].box, atol=1e-3)


@pytest.mark.parametrize("side", [8, 20, 64])
def test_flat_and_small_pictures_have_no_face(detector, side):
    assert detector(np.full((2, side, side, 3), 127, np.uint8)) == [[], []]


def test_of_boxes_that_overlap_the_most_probable_stays():
    rows = np.array([[0, 0, 10, 10, 0.9], [1, 1, 11, 11, 0.95], [30, 30, 40, 40, 0.5]], np.float32)
    same, other = np.zeros(3, int), np.array([0, 1, 0])
    np.testing.assert_array_equal(face_detector._suppressed(rows, same, 0.5), [1, 2])
    assert sorted(face_detector._suppressed(rows, other, 0.5)) == [0, 1, 2]


@pytest.mark.parametrize(("old", "new"), [(7, 3), (3, 7), (5, 5)])
def test_means_cover_what_they_touch(old, new):
    table = face_detector._means(old, new)
    np.testing.assert_allclose(table.sum(1), 1, rtol=1e-6)
    for i in range(new):
        inside = np.nonzero(table[i])[0]
        assert (
            inside[0] == int(i * old / new) and inside[-1] == int(np.ceil((i + 1) * old / new)) - 1
        )


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(UserError, match="pnet"):
        FaceDetector(tmp_path / "pnet.safetensors")
