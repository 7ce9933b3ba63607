"""Whether samples are what was asked for, as a probe of real pictures sees it."""

import pathlib
import types

import numpy as np
import pytest

from gen_jax.data.text import face_words
from gen_jax.evaluation import Predictor
from gen_jax.evaluation.face_attributes import attribute_accuracy
from gen_jax.evaluation.faces import Faces

PLACE = {name: i for i, name in enumerate(face_words.ATTRIBUTES)}


def draw(facts, seed):
    """Pictures [n, 32, 32, 3]: a bar for glasses, a bright half for a woman; noise besides."""
    rng = np.random.default_rng(seed)
    out = rng.uniform(60, 120, (len(facts), 8, 8)).repeat(4, 1).repeat(4, 2)
    out[facts[:, PLACE["glasses"]] == 1, 8:12] = 20
    out[facts[:, PLACE["gender"]] == 1, :, 16:] += 80
    return out[..., None].repeat(3, -1).clip(0, 255).astype(np.uint8)


class Data:
    """Pictures whose expressions are hardly known, with what `evaluation.Data` asks for besides."""

    label_names, captions, source, folder = (), {}, "test", pathlib.Path()

    def __init__(self):
        rng = np.random.default_rng(0)
        facts = rng.integers(0, 2, (300, 3)).astype(np.int8)
        facts[:, PLACE["expression"]] = -1
        facts[:5, PLACE["expression"]] = np.arange(5) % 2
        facts[::7, PLACE["glasses"]] = -1
        self._splits = {"train": facts[:200], "val": facts[200:]}

    def read(self, split, count):
        facts = self._splits[split][:count]
        return {"image": draw(facts, len(facts)), "facts": facts}

    def records(self, split, indices):
        return []

    def detokenize(self, tokens):
        return [""] * len(tokens)

    def tokenize(self, texts):
        return {"tokens": np.array(texts), "token_mask": np.ones(len(texts), bool)}


class Draws(Predictor):
    """Draws the glasses that prompts name, and never a woman; or both by seed alone."""

    task = types.SimpleNamespace(feature_space=None)

    def __init__(self, by_seed=False):
        self.without_text, self.by_seed = 0, by_seed

    def batched(self, name, batch, batch_size):
        assert name == "generate" and batch["seed"].dtype == np.uint32
        assert set(batch) <= {"tokens", "token_mask", "seed"}, "no face to copy"
        facts = np.zeros((len(batch["seed"]), 3), np.int8)
        if "tokens" not in batch:
            self.without_text += 1
            facts[::2] = 1
        elif self.by_seed:
            facts[:] = (batch["seed"] % 2)[:, None]
        else:
            named = [("glasses" in t or "spectacles" in t) for t in batch["tokens"]]
            none = [(" no " in f" {t} " or "without" in t) for t in batch["tokens"]]
            facts[:, PLACE["glasses"]] = np.array(named) & ~np.array(none)
        return {"image": draw(facts, 5)}


def test_a_prompt_that_is_followed_is_told_from_one_that_is_ignored():
    found, samples = attribute_accuracy(Draws(), Data(), "val", 16, 32, controls_per_value=8)
    m = found.metrics
    assert m["attribute_real/glasses"] > 0.95 and m["attribute_real/gender"] > 0.95
    assert m["attribute_accuracy/glasses"] > 0.95
    assert m["attribute_accuracy/gender"] == pytest.approx(0.5, abs=0.05)
    # Of two values the shuffled prompt names the other one.
    assert m["attribute_accuracy_shuffled/glasses"] < 0.05
    assert m["attribute_accuracy_shuffled/gender"] == pytest.approx(0.5, abs=0.05)
    assert m["attribute_accuracy_empty/glasses"] == pytest.approx(0.5, abs=0.05)
    assert m["attribute_chance/glasses"] == 0.5
    # Of expressions too few are known.
    assert not any("expression" in name for name in m)
    assert samples.shape == (4 * 16, 32, 32, 3) and found.pictures["asked"].ndim == 3


def test_values_drawn_by_seed_show_in_the_controls():
    m = attribute_accuracy(Draws(by_seed=True), Data(), "val", 16, 32)[0].metrics
    for name in ("glasses", "gender"):
        assert m[f"attribute_accuracy/{name}"] > 0.95
        assert m[f"attribute_accuracy_shuffled/{name}"] == m[f"attribute_accuracy/{name}"]
        assert m[f"attribute_accuracy_empty/{name}"] == m[f"attribute_accuracy/{name}"]


def test_the_evaluator_of_faces_reports_it_beside_samples_without_text():
    predict = Draws()
    found = Faces(count=64, per_value=16, controls=8)(predict, Data())
    assert predict.without_text == 1
    assert {"fd_untrained", "recall_untrained", "attribute_accuracy/glasses"} <= set(found.metrics)
    assert "attribute_accuracy_shuffled/gender" in found.notes
    assert set(found.pictures) == {"samples", "asked"}
