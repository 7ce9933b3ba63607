"""The evaluator of pictograms, with models whose answers are known."""

import types

import numpy as np

from gen_jax.data.prepare.sources import pictogram_draw, pictogram_scene, pictogram_text
from gen_jax.evaluation import meanings
from gen_jax.evaluation.pictograms import PictogramAccuracy
from tests.evaluation.known import Answers, Known, texts

NAMES = tuple(pictogram_scene.SUBJECTS)
SUBJECTS = NAMES[:6]
SPLITS = {"train": 0, "val": 1, "test": 2, "heldout": 3}


class Pictograms(Known):
    """Scenes of six subjects in turn, each split its own."""

    label_names, source = NAMES, "pictograms"

    def scene(self, split, index):
        rng = np.random.default_rng((SPLITS[split], index))
        subject = SUBJECTS[index % len(SUBJECTS)]
        scene = pictogram_scene.random_scene(rng, subject=subject, heldout=split == "heldout")
        return scene, pictogram_text.describe(scene, rng).text

    def read(self, split, count):
        rows = np.arange(min(count, self._counts[split]))
        scenes = [self.scene(split, i)[0] for i in rows]
        return {
            "image": np.stack([pictogram_draw.draw(scene, 64) for scene in scenes]),
            "label": np.array([NAMES.index(scene["subject"]) for scene in scenes]),
            "index": rows,
        }

    def records(self, split, indices):
        pairs = [self.scene(split, i) for i in indices]
        return [types.SimpleNamespace(attributes=a, captions=(text,)) for a, text in pairs]


DATA = Pictograms(train=240, val=24, test=24, heldout=12)


def follows(batch):
    """Draws what the prompt states; without a prompt, a gift on white."""
    images = []
    for text in texts(batch):
        subject = next((name for name in SUBJECTS if name in text), "gift")
        head = text.split(" on ")[0].split(",")[0]
        color = next((name for name in pictogram_scene.COLORS if name in head), None)
        rng = np.random.default_rng(len(text))
        scene = pictogram_scene.random_scene(rng, subject=subject, color=color)
        scene["background"] = next((b for b in pictogram_scene.BACKGROUNDS if b in text), "white")
        images.append(pictogram_draw.draw(scene, 64))
    return {"image": np.stack(images)}


def ignores(batch):
    return follows({"tokens": np.zeros_like(batch["tokens"])})


def by_place(batch):
    """Draws the test image of the row's place, whatever the prompt states."""
    return {"image": DATA.read("test", 24)["image"][np.arange(len(batch["tokens"])) % 24]}


def audit(model):
    evaluator = PictogramAccuracy(
        count=24, heldout=12, train_count=240, real_count=24, batch_size=24, shown=8, controls=12
    )
    predict = Answers(generate=model)
    predict.task.text_encoder = "any"
    return evaluator(predict, DATA)


def test_a_model_that_follows_its_prompts():
    result = audit(follows)
    m = result.metrics
    for name in ("subject", "color", "background"):
        assert m[f"{name}_accuracy_real"] >= 0.9 and m[f"{name}_accuracy"] >= 0.9, name
    assert m["heldout_subject_accuracy"] >= 0.9 and m["heldout_color_accuracy"] >= 0.9
    assert m["prompt_accuracy"] == m["subject_accuracy"] and m["prompt_chance"] == 1 / len(NAMES)
    assert m["prompt_accuracy_shuffled"] == 0 and m["prompt_accuracy_empty"] <= 0.25
    assert m["kid_low"] < m["kid"] < m["kid_high"]
    assert set(result.pictures) == set(result.prompts) == {"prompts", "real"}
    # Rows of different subjects come first.
    assert {next(s for s in SUBJECTS if s in t) for t in result.prompts["real"][:6]} == set(
        SUBJECTS
    )
    found = meanings.of_all("pictogram_accuracy", m)
    assert set(found) == set(m)
    assert "unseen in training" in found["heldout_color_accuracy"].text
    assert "real images" in found["color_accuracy_real"].text


def test_models_that_ignore_their_prompts():
    m, copied = audit(ignores).metrics, audit(by_place).metrics
    assert m["subject_accuracy"] <= 0.25 and m["background_accuracy"] < 0.6
    assert m["kid"] > 5 * abs(copied["kid"])
    # The label arrives by another path than the text.
    assert copied["subject_accuracy"] == copied["subject_accuracy_real"]
    assert copied["prompt_accuracy_shuffled"] >= 0.9
