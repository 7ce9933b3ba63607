"""What is said of a generator without prompts."""

import pathlib
import types

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.evaluation import Predictor
from gen_jax.evaluation.faces import Faces


def images(count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 8, 8, 3)).repeat(4, 1).repeat(4, 2).astype(np.uint8)


class Data:
    """Real images, with what `evaluation.Data` asks for besides."""

    label_names, captions, source, folder = (), {}, "test", pathlib.Path()

    def __init__(self, real):
        self.real = real

    def records(self, split, indices):
        return []

    def detokenize(self, tokens):
        return [""] * len(tokens)

    def tokenize(self, texts):
        return {}

    def read(self, split, count):
        return {"image": self.real[:count]}


class Predict(Predictor):
    """Gives what it was told to by seed."""

    task = types.SimpleNamespace(feature_space=types.SimpleNamespace(encoder="dino_tiny"))

    def __init__(self, made):
        self.made = made

    def batched(self, name, batch, batch_size):
        assert name == "generate" and batch["seed"].dtype == np.uint32
        return {"image": self.made[batch["seed"]]}


def measured(real, made, **fields):
    return Faces(count=len(real), **fields)(Predict(made), Data(real))


def test_equal_sets_are_near_and_one_picture_many_times_is_not():
    real = images(64, 0)
    same, other = measured(real, real).metrics, measured(real, images(64, 1)).metrics
    one = measured(real, real[:1].repeat(64, 0)).metrics
    assert same["fd_untrained"] < 1e-3 < other["fd_untrained"] < one["fd_untrained"]
    assert same["recall_untrained"] == same["precision_untrained"] == 1
    assert same["diversity"] == pytest.approx(1)
    assert one["diversity"] == 0 and one["recall_untrained"] < 0.2
    of_features = {f"{name}_untrained" for name in ("fd", "kid", "precision", "recall")}
    assert set(same) == of_features | {"diversity"}


def test_the_guide_is_no_judge():
    with pytest.raises(UserError, match="dino_tiny guides the training"):
        measured(images(16, 0), images(16, 1), encoder="dino_tiny")


def test_few_pictures_have_a_sheet_and_no_numbers():
    found = measured(images(4, 0), images(4, 1))
    assert not found.metrics and found.pictures["samples"].ndim == 3


def test_faces_are_counted_and_their_points_compared(shared):
    import io
    import zipfile

    with zipfile.ZipFile(shared / "faces.zip") as file:
        faces = np.load(io.BytesIO(file.read("faces64.npz")))["images"][:96]
    faces = faces[..., None].repeat(3, -1)
    real, made = faces[:64], np.concatenate([faces[64:], images(32, 0).repeat(2, 1).repeat(2, 2)])
    weights = shared / "weights_small.zip:mtcnn_pnet.safetensors"
    found = measured(real, made, detector=str(weights)).metrics
    assert found["detection_rate_real"] > 0.9
    assert found["detection_rate"] == pytest.approx(0.5, abs=0.05), "noise is no face"
    assert found["anatomy"] > 0.35
