"""Metrics of captions and of retrieval on answers that are known."""

import numpy as np
import pytest

from gen_jax.evaluation.captioned_images import CaptionedImages, has_loop, recall_at
from tests.evaluation.known import Answers, Known, texts

TRUE = [f"{a} {b} near the {c}" for a in ("a", "one") for b in ("man", "ship", "tower", "dog")
        for c in ("river", "church", "hill")]  # fmt: skip


class Captioned(Known):
    """Images with the captions of `TRUE`, in turn; in training the ones after them."""

    def records(self, split, indices):
        shift = 0 if split == "val" else 1
        kind = type("Record", (), {})
        found = [kind() for _ in indices]
        for record, index in zip(found, indices):
            record.captions = (TRUE[(index + shift) % len(TRUE)],)
        return found

    def detokenize(self, tokens):
        return texts({"tokens": tokens})


def evaluated(captions, rows):
    data = Captioned(val=len(TRUE), train=len(TRUE))

    def reconstruct(batch):
        return {"image": batch["image"], "caption": data.tokenize(captions)["tokens"]}

    def embed(batch):
        count = len(batch["image"])
        one_hot = np.eye(count, dtype=np.float32)
        return {"image_embedding": one_hot, "text_embedding": one_hot[rows(np.arange(count))]}

    def generate(batch):
        said = ["a man and a dog and a man and a dog", "a ship", "a ship", "a tower"]
        image = np.zeros((4, 32, 32, 3), np.uint8)
        return {"image": image, "caption": data.tokenize(said)["tokens"]}

    predict = Answers(reconstruct=reconstruct, embed=embed, generate=generate)
    return CaptionedImages(samples=4, shown=4)(predict, data)


def test_true_captions_and_matching_embeddings_score_highest():
    result = evaluated(TRUE, lambda rows: rows)
    found = result.metrics
    assert found["bleu4"] == pytest.approx(1.0) and found["cider"] == pytest.approx(10.0)
    assert found["cider_nearest"] < found["cider"] / 2
    assert found["r_at_10_image_to_text"] == found["r_at_10_text_to_image"] == 1.0
    assert found["r_at_10_chance"] == pytest.approx(10 / 24)
    assert found["loop_rate"] == 0.25 and found["distinct_captions"] == 0.75
    assert result.pictures.keys() == {"captions", "samples"}


def test_captions_and_embeddings_of_other_images_score_lower():
    found = evaluated(TRUE[1:] + TRUE[:1], lambda rows: np.roll(rows, 1)).metrics
    assert found["cider"] < 5 and found["bleu4"] < 0.9
    assert found["r_at_10_image_to_text"] == found["r_at_10_text_to_image"] == 0.0


def test_recall_and_loops():
    scores = np.eye(30)
    assert recall_at(scores, 1) == 1.0 and recall_at(1.0 - scores, 10) == 0.0
    assert recall_at(np.zeros((30, 30)), 10) == 0.0  # what does not vary finds nothing
    assert has_loop("a man in a hat, a man in a coat") and not has_loop("a man in a hat and a coat")
