"""Metrics of captions and of retrieval on answers that are known."""

import numpy as np
import pytest

from gen_jax.evaluation.captioned_images import CaptionedImages, recall_at
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

    predict = Answers(reconstruct=reconstruct, embed=embed)
    return CaptionedImages(shown=4)(predict, data)


def test_true_captions_and_matching_embeddings_score_highest():
    result = evaluated(TRUE, lambda rows: rows)
    found = result.metrics
    assert found["bleu4"] == pytest.approx(1.0) and found["cider"] == pytest.approx(10.0)
    assert found["cider_nearest"] < found["cider"] / 2
    assert found["r_at_10_image_to_text"] == found["r_at_10_text_to_image"] == 1.0
    assert found["r_at_10_chance"] == pytest.approx(10 / 24)
    assert found["r_at_1_image_to_text"] == found["exact_words"] == 1.0
    assert found["cider_minus_nearest_low"] > 0 and found["cider_mode"] < 3
    assert found["cider_minus_nearest"] == pytest.approx(found["cider"] - found["cider_nearest"])
    assert result.pictures.keys() == {"captions"}


def test_captions_and_embeddings_of_other_images_score_lower():
    found = evaluated(TRUE[1:] + TRUE[:1], lambda rows: np.roll(rows, 1)).metrics
    assert found["cider"] < 5 and found["bleu4"] < 0.9
    assert found["r_at_10_image_to_text"] == found["r_at_10_text_to_image"] == 0.0


def test_recall():
    scores = np.eye(30)
    assert recall_at(scores, 1) == 1.0 and recall_at(1.0 - scores, 10) == 0.0
    assert recall_at(np.zeros((30, 30)), 10) == 0.0  # what does not vary finds nothing
