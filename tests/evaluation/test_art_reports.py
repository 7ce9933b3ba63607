"""Evaluators of codes, samples and adjectives, on predictors whose answers are known."""

import dataclasses

import numpy as np
import pytest

from gen_jax.common.errors import NoSplit
from gen_jax.data.text import art_attributes, art_words
from gen_jax.evaluation import Result, run_all
from gen_jax.evaluation.adjectives import Adjectives
from gen_jax.evaluation.art_samples import ArtSamples
from gen_jax.evaluation.class_retrieval import ClassRetrieval, _places
from gen_jax.evaluation.codes import Codes, code_map, use_of
from gen_jax.evaluation.detail import Detail
from gen_jax.evaluation.memorisation import MemorisationAudit
from gen_jax.evaluation.prompt_robustness import WORDINGS, PromptRobustness
from gen_jax.evaluation.word_attention import WordAttention
from gen_jax.evaluation.word_margins import WordMargins
from gen_jax.metrics.memorisation import memorisation
from tests.evaluation.known import SIDE, Answers, Known, texts


def obedient(batch):
    """Pictures that are dark where "dark" or "gloomy" is asked for, else bright."""
    rng = np.random.default_rng(0)
    level = [
        40 if set(t.replace(",", "").split()) & {"dark", "gloomy", "murky"} else 200
        for t in texts(batch)
    ]
    noise = rng.integers(0, 20, (len(level), SIDE, SIDE, 3))
    return {"image": (noise + np.array(level)[:, None, None, None]).astype(np.uint8)}


def deaf(batch):
    rng = np.random.default_rng(1)
    return {"image": rng.integers(0, 256, (len(batch["seed"]), SIDE, SIDE, 3)).astype(np.uint8)}


class DarkAndBright(Known):
    """Pictures that are dark and bright by turns, in noise."""

    def read(self, split, count):
        found = super().read(split, count)
        words = ["dark" if i % 2 else "bright" for i in range(len(found["index"]))]
        return found | {"image": obedient(self.tokenize(words))["image"]}


@pytest.mark.parametrize(("generate", "want"), [("obedient", 1.0), ("deaf", 0.5)])
def test_a_probe_judges_adjectives_besides(generate, want):
    audit = Adjectives(per_word=32, words=("dark", "bright", "swirling"), probe=64)
    m = audit(Answers(generate=globals()[generate]), DarkAndBright(train=64, val=40)).metrics
    assert m["probe_held_out"] == 1.0
    assert m["probe_accuracy/dark"] == pytest.approx(want, abs=0.25 * (want < 1))
    assert m["probe_accuracy/bright"] == pytest.approx(want, abs=0.25 * (want < 1))
    assert 0 <= m["probe_accuracy_shuffled"] <= 0.75 and "probe_accuracy_empty" in m
    # No picture swirls: there is nothing to know it by.
    assert "probe_accuracy/swirling" not in m and "adjective_accuracy/swirling" in m
    few = audit(Answers(generate=obedient), DarkAndBright(train=10, val=40)).metrics
    assert not any(name.startswith("probe") for name in few)


def test_adjectives_that_are_heard():
    found = Adjectives(per_word=8, words=("dark", "bright"))(Answers(generate=obedient), Known())
    m = found.metrics
    assert m["adjective_accuracy/dark"] == m["adjective_accuracy/bright"] == 1.0
    # Of dark's three paraphrases it knows two; of bright's none, but bright is what it makes then.
    assert m["paraphrase_accuracy/dark"] == pytest.approx(6 / 8 + 2 / 8 * 0.5, abs=0.13)
    assert m["paraphrase_accuracy/bright"] == 1.0
    assert set(found.pictures) == {"adjectives", "opposites", "adjectives_worst"}


def test_adjectives_that_are_not():
    found = Adjectives(per_word=16, paraphrases=False, controls=1)(
        Answers(generate=deaf), Known()
    ).metrics
    assert found["adjective_accuracy"] == pytest.approx(0.5, abs=0.06)
    assert len([k for k in found if k.startswith("adjective_accuracy/")]) == len(
        art_words.load().adjectives
    )
    assert not any(k.startswith("paraphrase") for k in found)


def test_wordings_that_are_read_and_that_are_not():
    """A reader of exact small words: lost where they are misspelt, fooled where negated."""
    words = ("dark", "bright")
    found = PromptRobustness(per_word=6, words=words)(Answers(generate=obedient), Known()).metrics
    found = {k.removeprefix("wording_accuracy/"): v for k, v in found.items()}
    assert set(found) == {"plain", *WORDINGS}
    assert found["plain"] == found["unknown"] == found["long"] == 1.0
    # Misspelt, "drak" is read as bright: right for bright alone, and even with its own opposite.
    assert found["misspelt"] == pytest.approx(0.75, abs=0.13)
    # "not bright" is bright to it, and "not dark" dark.
    assert found["negated"] == pytest.approx(0.5, abs=0.13)
    # Both are dark to it: darker than bright, and as dark as dark.
    assert found["both"] == pytest.approx(0.75, abs=0.13)


class Sorted(Known):
    """Twelve classes, each of one colour; its tokens are its number."""

    def read(self, split, count):
        if split not in self._counts:
            raise NoSplit(f"no split {split}")
        rng = np.random.default_rng(len(split))
        label = np.arange(min(count, self._counts[split])) % 12
        base = np.random.default_rng(9).integers(0, 256, (12, 1, 1, 3))
        noise = rng.integers(-4, 5, (len(label), SIDE, SIDE, 3))
        image = np.clip(base[label] + noise, 0, 255).astype(np.uint8)
        tokens = np.repeat(label[:, None], 4, 1).astype(np.int32)
        return {"image": image, "label": label, "tokens": tokens, "token_mask": tokens >= 0}


def test_classes_are_retrieved_by_samples_that_show_them():
    data = Sorted(train=120, val=36)
    base = data.read("train", 12)["image"]

    def shown(batch):
        return {"image": base[batch["tokens"][:, 0]]}

    def coded(batch):
        """Codes that know two of the twelve classes."""
        near = np.abs(batch["image"].astype(int).mean((1, 2))[:, None] - base[:, 0, 0]).sum(-1)
        return {"image": np.where((near.argmin(1) < 2)[:, None, None, None], batch["image"], 0)}

    audit = ClassRetrieval(count=60, train=120, k=2, controls=0)
    result = audit(Answers(generate=shown, reconstruct=coded), data)
    m = result.metrics
    assert m["retrieval"] == m["retrieval_real"] == 1.0
    assert 2 / 12 <= m["retrieval_reconstructed"] <= 4 / 12
    assert result.pictures["classes"].shape[1] == 8 * (128 + 4) + 4  # four pairs in a row
    few = dataclasses.replace(audit, shown=3)(Answers(generate=deaf, reconstruct=coded), data)
    assert few.pictures["classes"].shape[1] == 6 * (128 + 4) + 4  # three pairs in all
    assert m["retrieval_chance"] == pytest.approx(2 / 12)
    lost = audit(Answers(generate=deaf, reconstruct=coded), data).metrics
    assert lost["retrieval"] < 0.35
    missing = audit(Answers(generate=shown, reconstruct=coded), Sorted(train=120))
    assert "no split 'val'" in missing.warnings[0] and missing.metrics["retrieval"] == 1.0
    assert "too few" in ClassRetrieval(k=12)(Answers(generate=shown), data).warnings[0]


def test_a_row_that_is_as_near_to_every_class_finds_none():
    centres, truth = np.eye(4), np.array([2, 0])
    assert _places(np.zeros((2, 4)), centres, truth).tolist() == [3, 3]
    assert _places(
        np.array([[0.1, 0.2, 0.3, 0.0], [0.1, 0.2, 0.3, 0.0]]), centres, truth
    ).tolist() == [0, 2]


def test_pictures_too_flat_to_measure_are_chance():
    def flat(batch):
        return {"image": np.full((len(batch["seed"]), SIDE, SIDE, 3), 90, np.uint8)}

    audit = Adjectives(per_word=4, words=("vertical", "swirling", "dark"), paraphrases=False)
    found = audit(Answers(generate=flat), Known()).metrics
    for name in ("vertical", "swirling", "dark"):
        assert found[f"adjective_accuracy/{name}"] == 0.5
    assert found["adjective_accuracy_shuffled"] == found["adjective_accuracy_empty"] == 0.5


def test_margins_are_of_true_words_over_turned_ones():
    data = Known(val=40)

    def score(batch):
        """Likely by how much of the caption is true of the picture."""
        nll = []
        for image, text in zip(batch["image"], texts(batch)):
            true = art_words.suggest(art_attributes.measure(image))
            nll.append(1.0 - 0.25 * sum(word in true for word in text.split(", ")))
        return {"nll": np.array(nll, np.float32)}

    heard = WordMargins(count=40)(Answers(score=score), data).metrics
    assert heard["swapped_accuracy"] == 1.0 and heard["swapped_margin"] == pytest.approx(0.25)
    even = WordMargins(count=40)(
        Answers(score=lambda b: {"nll": np.ones(len(b["image"]), np.float32)}), data
    ).metrics
    assert even["swapped_accuracy"] == 0.5 and even["swapped_margin"] == 0.0


def test_codes_are_counted_and_the_worst_are_shown():
    data = Known(val=12)

    def reconstruct(batch):
        image = batch["image"].copy()
        image[3] = 0  # one is lost
        codes = np.zeros((len(image), 2, 2, 1), np.int32)
        codes[0, 0, 0] = 5
        return {"image": image, "codes": codes}

    found = Codes(count=12, shown=1)(Answers(reconstruct=reconstruct), data)
    assert found.metrics["usage"] == 2 / 8 and 1.0 < found.metrics["perplexity"] < 1.2
    assert found.warnings == ()
    original = data.read("val", 12)["image"][3].repeat(4, 0).repeat(4, 1)  # as sheets enlarge
    side = len(original)
    sheet = found.pictures["reconstruction_worst"]
    assert any(
        (sheet[y : y + side, x : x + side] == original).all() for y in range(9) for x in range(9)
    ), "the worst is not shown"
    missing = Codes(count=4)(Answers(reconstruct=reconstruct), Known(train=12))
    assert len(missing.warnings) == 1 and "no split 'val'" in missing.warnings[0]


def test_detail_is_measured_beside_what_it_was_added_to():
    data = Known(train=12, val=12)
    image = data.read("val", 12)["image"]
    flat = image.mean((1, 2), keepdims=True).astype(np.uint8) + np.zeros_like(image)
    answers = Answers(reconstruct=lambda batch: {"image": image, "decoded": flat})
    found = Detail(shown=3)(answers, data)
    perfect = {k: v for k, v in found.metrics.items() if not k.endswith("_decoded")}
    spread = {"rkid_untrained", "rkid_untrained_low", "rkid_untrained_high"}
    assert perfect.keys() == {"psnr", "ssim", "contrast", "rfd_untrained", *spread}
    assert perfect["contrast"] == perfect["ssim"] == 1.0 and perfect["rfd_untrained"] < 1e-3
    assert found.metrics["contrast_decoded"] == 0.0 < found.metrics["rfd_untrained_decoded"]
    assert found.metrics["rkid_untrained"] < found.metrics["rkid_untrained_decoded"]
    rows = found.pictures["detail"]
    assert rows.shape[0] > 2.9 * SIDE, "three rows"
    missing = Detail(count=4)(answers_of(4, image, flat), Known(train=12))
    assert "held-out images is of training images" in missing.warnings[0]


def answers_of(count, image, flat):
    return Answers(reconstruct=lambda batch: {"image": image[:count], "decoded": flat[:count]})


def test_use_of_codes():
    even = np.arange(8).reshape(2, 2, 2, 1)
    assert use_of(even, 8) == {"usage": 1.0, "perplexity": pytest.approx(8.0)}
    assert use_of(np.zeros((2, 2, 2, 1), int), 8) == {"usage": 1 / 8, "perplexity": 1.0}
    picture = code_map(np.array([[0, 1], [1, 0]]), 8)
    assert picture.shape == (8, 8, 3) and (picture[:4, :4] == picture[4:, 4:]).all()
    assert (picture[:4, :4] != picture[:4, 4:]).any()


def test_samples_beside_the_best_and_the_worst():
    data = Known(train=80, val=40)
    real = data.read("train", 80)["image"]

    def generate(batch):
        return {"image": real[40 : 40 + len(batch["seed"])][::-1]}

    def random(batch):
        return deaf(batch)

    predict = Answers(
        generate=generate, random=random, reconstruct=lambda b: {"image": b["image"] // 8 * 7 + 16}
    )
    m = ArtSamples(count=40, batch_size=8)(predict, data).metrics
    kid = "kid_untrained"
    assert m[kid] < m[f"{kid}_reconstructions"] < m[f"{kid}_random"]
    assert m[f"{kid}_low"] <= m[kid] <= m[f"{kid}_high"]
    assert m[f"{kid}_over_random"] == pytest.approx(m[kid] / m[f"{kid}_random"])
    assert m["precision_untrained"] == m["recall_untrained"] == 1.0 and "kid" not in m
    few = ArtSamples(count=40)(predict, Known(train=10))
    assert few.metrics == {} and "too few" in few.warnings[0]


def test_copies_are_told_before_any_number():
    data = Known(train=60, val=60)
    train = data.read("train", 60)["image"]

    def copies(batch):
        return {"image": train[: len(batch["seed"])]}

    def fresh(batch):
        return {"image": Known(other=60).read("other", 60)["image"][: len(batch["seed"])]}

    audit = MemorisationAudit(count=60, train=60, split="val")
    copied, free = (audit(Answers(generate=g), data) for g in (copies, fresh))
    assert copied.metrics["copies"] == 1.0 and copied.metrics["nearest_chance"] < 1e-6
    assert "nearer to the training images" in copied.warnings[0]
    assert free.warnings == () and free.metrics["nearest_chance"] > 0.01


def test_copies_that_only_a_caption_brings_are_found():
    class Captioned(Known):
        def read(self, split, count):
            tokens = np.arange(count, dtype=np.int32)[:, None] + 1
            return super().read(split, count) | {"tokens": tokens, "token_mask": tokens > 0}

    data = Captioned(train=60, val=60)
    train = data.read("train", 60)["image"]
    free = Known(other=60).read("other", 60)["image"]

    def generate(batch):
        told = "tokens" in batch
        return {"image": train[batch["tokens"][:, 0] - 1] if told else free[batch["seed"] % 60]}

    copies = [
        MemorisationAudit(count=80, train=60, prompts=p)(Answers(generate=generate), data).metrics[
            "copies"
        ]
        for p in (True, False)
    ]
    assert copies[0] == 1.0 and copies[1] < 0.1


def test_chance_of_the_audit_is_even_for_equal_sets():
    rng = np.random.default_rng(0)
    train = rng.standard_normal((100, 6))
    chances = [
        memorisation(rng.standard_normal((40, 6)), train, rng.standard_normal((40, 6))).chance
        for _ in range(100)
    ]
    assert 0.35 < np.mean(chances) < 0.65 and np.mean(np.array(chances) < 0.1) < 0.2


def test_warnings_of_all_evaluators_come_once():
    class One:
        def __call__(self, predict, data):
            return Result({"x": 1.0}, warnings=("look out",))

    both = run_all({"a": ("s", One()), "b": ("t", One())}, Answers(), Known())
    assert both.warnings == ("look out",) and both.metrics == {"s/x": 1.0, "t/x": 1.0}


class Words(Known):
    """A text is its beginning, a token a word or comma, and its end."""

    def tokenize(self, texts):
        rows = [[1, *(9 for _ in text.replace(",", " ,").split()), 2] for text in texts]
        ids = np.array([(row + [0] * 16)[:16] for row in rows], np.int32)
        return {"tokens": ids, "token_mask": ids > 0}


def test_attention_is_laid_on_the_tokens_of_each_word():
    """Three words and two commas: the upper half looks at the second word, the lower at an end."""
    data, shares = Words(val=12), []

    class Looks(Answers):
        def __call__(self, name, batch, call=0):
            assert name == "look"
            maps = np.zeros((len(batch["seed"]), 4, 4, 16), np.float32)
            maps[:, :2, :, 3] = 1.0  # beginning, word, comma, WORD
            maps[:, 2:, :, 0] = 1.0
            shares.append(batch["token_mask"].sum(1))
            image = np.full((len(maps), SIDE, SIDE, 3), 255, np.uint8)
            return {"image": image, "attention": maps}

    found = WordAttention(count=6)(Looks(), data)
    assert found.metrics == {"attention_on_words": 0.5}
    assert (shares[0] == 7).all(), "three words, two commas, two ends"
    picture = found.pictures["word_attention"]
    left, scale = 4 + 2 * (4 + 128), 128 // SIDE  # the third column shows the second word
    cell = picture[4 : 4 + 128, left : left + 128]
    assert scale == 4 and cell[:64].min() == 255 and cell[64:].max() == int(255 * 0.15)
