"""Controls of text adherence: a model that ignores the text must be able to fail them.

Each evaluator meets models whose answers are known. One draws what its prompt says. Three ignore
the prompt: one draws always the same, one draws the right label by the place in the batch, and one
copies the training image of that place, as if it had leaked into the batch.
"""

import functools

import numpy as np
import pytest

from gen_jax.data.prepare.sources import shapes
from gen_jax.evaluation import controls
from gen_jax.evaluation.adjectives import Adjectives
from gen_jax.evaluation.class_retrieval import ClassRetrieval
from gen_jax.evaluation.prompts import PromptAccuracy
from gen_jax.evaluation.shapes import ShapesAccuracy
from tests.evaluation.known import SIDE, Answers, Known, texts

CLASSES = 4
BLANK = np.full((SIDE, SIDE, 3), 128, np.uint8)


def other_share(labels, **values):
    """Share of rows whose prompt has another label, for each column of labels."""
    order = controls.other_labels(labels, **values)
    assert sorted(order) == list(range(len(labels))), "a permutation"
    return (labels != labels[order]).mean(0)


def test_every_row_gets_the_prompt_of_another_label():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert other_share(np.arange(17).repeat(4)[rng.permutation(68)], seed=seed) == 1
        assert other_share(np.array([0, 1] * 8), seed=seed) == 1
        # More than half of one label: each of the others is swapped for one of it.
        assert other_share(np.array([0] * 6 + [1, 2]), seed=seed) == 0.5
        both = np.stack([np.arange(64) // 8, np.arange(64) % 8], 1)
        assert other_share(both, seed=seed).tolist() == [1, 1]
    assert other_share(np.array(["a", "b", "a", "b"])) == 1
    labels = np.arange(20) % 5
    orders = {tuple(controls.other_labels(labels, seed)) for seed in range(4)}
    assert len(orders) == 4, "the seed draws another permutation"
    assert (controls.other_labels(labels, 1) == controls.other_labels(labels, 1)).all()


def images_of(labels):
    """Images of classes, each of its own color."""
    colors = np.random.default_rng(9).integers(0, 256, (16, 1, 1, 3))
    noise = np.random.default_rng(len(labels)).integers(-4, 5, (len(labels), SIDE, SIDE, 3))
    return np.clip(colors[np.asarray(labels, int)] + noise, 0, 255).astype(np.uint8)


class Classes(Known):
    """Images of classes in turn, captioned by their number."""

    def __init__(self, num_classes=CLASSES, **counts):
        super().__init__(**counts)
        self.captions = {k: (f"{k}", f"class {k}") for k in range(num_classes)}
        self._num_classes = num_classes

    def read(self, split, count):
        batch = super().read(split, count)
        labels = np.arange(len(batch["index"])) % self._num_classes
        prompts = self.tokenize([str(k) for k in labels])
        return batch | {"image": images_of(labels), "label": labels} | prompts


def follows(batch):
    """Draws the class that the prompt names, and class 0 without."""
    return {"image": images_of([int(t.split()[-1]) if t else 0 for t in texts(batch)])}


def ignores(batch):
    return {"image": images_of(np.zeros(len(batch["tokens"])))}


def by_place(num_classes, batch):
    """Draws the class of the row's place (or seed), whatever the prompt says."""
    assert set(batch) <= {"tokens", "token_mask", "seed"}, "no image to copy"
    return {"image": images_of(batch.get("seed", np.arange(len(batch["tokens"]))) % num_classes)}


def copies(data, batch):
    """Copies the training image of the row's place."""
    return {"image": data.read("train", len(batch["tokens"]))["image"]}


@pytest.mark.parametrize(
    ("model", "score", "shuffled", "empty"),
    [
        (follows, 1, 0, 1 / CLASSES),
        (ignores, 1 / CLASSES, 1 / CLASSES, 1 / CLASSES),
        (functools.partial(by_place, CLASSES), 1, 1, 1),
        (functools.partial(copies, Classes(train=32)), 1, 1, 1),
    ],
)
def test_prompt_accuracy(model, score, shuffled, empty):
    audit = PromptAccuracy(
        count=32, train_count=32, val_count=32, batch_size=8, shown=4, controls=16
    )
    result = audit(Answers(generate=model), Classes(train=32, val=32))
    m = result.metrics
    assert m["probe_accuracy"] == 1 and m["prompt_chance"] == 1 / CLASSES
    assert (m["prompt_accuracy"], m["prompt_accuracy_shuffled"]) == (score, shuffled)
    assert m["prompt_accuracy_empty"] == empty
    assert set(result.notes) == {"prompt_accuracy_shuffled", "prompt_accuracy_empty"}


@pytest.mark.parametrize(
    ("model", "score", "shuffled", "empty"),
    [
        (follows, 1, 0, 1 / 12),
        (ignores, 1 / 12, 1 / 12, 1 / 12),
        (functools.partial(by_place, 12), 1, 1, 1),
        (functools.partial(copies, Classes(12, train=36)), 1, 1, 1),
    ],
)
def test_class_retrieval(model, score, shuffled, empty):
    audit = ClassRetrieval(count=36, train=36, k=1, shown=3, controls=24)
    predict = Answers(generate=model, reconstruct=lambda b: {"image": b["image"]})
    m = audit(predict, Classes(12, train=36)).metrics
    found = m["retrieval"], m["retrieval_shuffled"], m["retrieval_empty"]
    assert found == pytest.approx((score, shuffled, empty))
    assert m["retrieval_chance"] == pytest.approx(1 / 12)


def scene(color, shape):
    """A single object, drawn large in the middle."""
    place = {"x": 0.5, "y": 0.5, "r": 0.28, "angle": 0.0, "position": "center", "size": "large"}
    one = {"shape": shape, "color": color, **place}
    return shapes.draw({"kind": "single", "background": "white", "objects": [one]}, SIDE)


class World(Known):
    source = "shapes"

    def records(self, split, indices):
        return [type("Record", (), {"attributes": {"kind": "group"}}) for _ in indices]


def draws_words(batch):
    """Draws the color and the shape that the prompt names; nothing without."""
    found = []
    for text in texts(batch):
        words = text.replace("disc", "circle").replace("plus sign", "cross")
        named = [[n for n in known if n in words] for known in (shapes.COLORS, shapes.SHAPES)]
        found.append(scene(named[0][0], named[1][0]) if all(named) else BLANK)
    return {"image": np.stack(found)}


def draws_places(batch):
    """Draws the first prompts of seed 0 in their order, whatever the prompts say now."""
    assert set(batch) == {"tokens", "token_mask"}
    known = [p.facts["objects"][0] for p in shapes.prompts(10, 0, kinds=("single",))]
    pictures = [scene(known[i % 10]["color"], known[i % 10]["shape"]) for i in range(10)]
    return {"image": np.stack([pictures[i % 10] for i in range(len(batch["tokens"]))])}


def test_shapes_accuracy():
    audit = ShapesAccuracy(count=10, others=1, batch_size=4, shown=2, controls=8)
    data = World(val=4)
    m = audit(Answers(generate=draws_words), data).metrics
    for name in ("prompt", "color", "shape"):
        assert m[f"{name}_accuracy"] == 1
        assert m[f"{name}_accuracy_shuffled"] == m[f"{name}_accuracy_empty"] == 0
    assert (m["prompt_chance"], m["color_chance"], m["shape_chance"]) == (1 / 56, 1 / 8, 1 / 8)
    m = audit(Answers(generate=draws_places), data).metrics
    for name in ("prompt", "color", "shape"):
        assert m[f"{name}_accuracy"] == 1
        assert m[f"{name}_accuracy_shuffled"] == m[f"{name}_accuracy_empty"] == 1


WORDS = ("dark", "bright", "warm", "cold")


def shades(levels):
    noise = np.random.default_rng(0).integers(0, 20, (len(levels), SIDE, SIDE, 3))
    return {"image": (noise + np.asarray(levels)[:, None, None, None]).astype(np.uint8)}


def obeys(batch):
    """Dark, bright, or between for all that it does not know; nothing else is heard."""
    return shades([{"dark": 40, "bright": 200}.get(t, 120) for t in texts(batch)])


class Drifts(Answers):
    """Ignores the prompts: rows of each adjective change its way from call to call."""

    def __init__(self):
        self.calls = 0

    def batched(self, name, batch, batch_size):
        self.calls += 1
        dark = (batch["seed"] // 8) % 2 == 0  # of 8 samples a word
        return shades(120 + 10 * self.calls * np.where(dark, 1, -1))


def test_adjectives():
    audit = Adjectives(per_word=8, words=WORDS, paraphrases=False, shown=1, controls=4)
    m = audit(Answers(generate=obeys), Known()).metrics
    assert m["adjective_accuracy/dark"] == m["adjective_accuracy/bright"] == 1
    # Dark and bright get warm and cold, which it draws alike.
    assert m["adjective_accuracy_shuffled"] == pytest.approx(0.5, abs=0.1)
    # What it draws without text is darker than "bright" and brighter than "dark".
    assert m["adjective_accuracy_empty"] > 0.7
    pair = Adjectives(per_word=8, words=WORDS[:2], paraphrases=False, shown=1, controls=4)
    assert pair(Answers(generate=obeys), Known()).metrics["adjective_accuracy_shuffled"] == 0
    still = pair(Answers(generate=lambda b: shades([90] * len(b["seed"]))), Known()).metrics
    assert still["adjective_accuracy"] == still["adjective_accuracy_shuffled"] == 0.5
    # Each side is drawn by another call: rows of "dark" darker at first, those of "bright" later.
    leaks = pair(Drifts(), Known()).metrics
    assert leaks["adjective_accuracy"] == leaks["adjective_accuracy_shuffled"] == 1
    none = Adjectives(per_word=2, words=WORDS[:2], paraphrases=False, shown=1, controls=0)
    assert not any("shuffled" in k for k in none(Answers(generate=obeys), Known()).metrics)


def test_few_rows_are_filled_up_to_the_shape_of_the_main_score():
    """Fewer control rows than a batch must not make the sampler compile for another shape."""
    shapes_seen = set()

    def generate(batch):
        shapes_seen.add(len(batch["seed"]))
        return {"image": np.stack([BLANK] * len(batch["seed"]))}

    data = Known()
    batch = {**data.tokenize(list("abcdefgh")), "seed": np.arange(8, dtype=np.uint32)}
    labels = np.arange(8)
    got = controls.generate(Answers(generate=generate), data, batch, labels, np.arange(3), 8)
    assert shapes_seen == {8} and all(len(images) == 3 for images in got.values())
    assert controls.generate(Answers(), data, batch, labels, np.arange(0), 8) == {}
