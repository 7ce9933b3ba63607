"""BLEU and CIDEr-D against pycocoevalcap's figures, and on captions whose scores are known."""

import json
import pathlib

import numpy as np
import pytest

from gen_jax.metrics import captions
from tests.tiny_text import golden_script

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "captions.json"


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


def test_scores_are_those_of_pycocoevalcap(golden):
    given, true = golden["candidates"], golden["references"]
    np.testing.assert_allclose(captions.cider_d(given, true), golden["cider"], rtol=1e-9)
    bleu = [captions.bleu(given, true, n) for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(bleu, golden["bleu"], rtol=1e-6)


@pytest.mark.nightly
def test_pycocoevalcap_gives_the_stored_scores(golden):
    pytest.importorskip("pycocoevalcap", exc_type=ImportError)
    made = golden_script("make_captions").scores()
    assert (made["candidates"], made["references"]) == (golden["candidates"], golden["references"])
    for name in ("bleu", "cider"):
        np.testing.assert_allclose(made[name], golden[name], rtol=1e-9)


def test_the_caption_itself_scores_highest_whatever_its_case_and_commas():
    true = ["A man, riding a horse.", "the old tower of London", "two ships in one harbor"]
    scores = captions.cider_d([text.upper() for text in true], [[text] for text in true])
    np.testing.assert_allclose(scores, 10.0)
    assert captions.bleu(true, [[text] for text in true]) == pytest.approx(1.0)
    shuffled = captions.cider_d(true[1:] + true[:1], [[text] for text in true])
    np.testing.assert_allclose(shuffled, 0.0, atol=1e-9)


def test_captions_without_words_score_nothing():
    assert captions.bleu(["", "..."], [["a man"], ["a dog"]]) == 0.0
    assert captions.cider_d(["", "..."], [["a man"], ["a dog"]]).tolist() == [0.0, 0.0]
    assert captions.words("L'Arc de Triomphe -- N° 2, soldier's_hat") == [
        *("l'arc", "de", "triomphe", "n", "2", "soldier's", "hat"),
    ]


def test_exact_words_leave_stop_words_out():
    true = [["The head of a grey parrot"], ["of the"], ["An owl"]]
    assert captions.exact_words(["the parrot", "of the", "owl"], true) == pytest.approx(2 / 3)
    assert captions.exact_words(["a of the"], [["the head"]]) == 0.0


def test_loops():
    assert captions.has_loop("a man in a hat, a man in a coat")
    assert not captions.has_loop("a man in a hat and a coat")


def test_a_trigram_model_is_a_distribution_that_prefers_what_it_saw():
    seen = ["the head of the owl", "the head of the bat", "an owl"]
    model = captions.TrigramModel(seen)
    words = {word for text in seen for word in captions.words(text)} | {"</s>", "unseen"}
    for context in (("<s>", "the"), ("of", "the"), ("never", "seen")):
        total = sum(model._probability((*context, word)) for word in words)
        assert total == pytest.approx(1.0)
    assert model.perplexity(["the head of the owl"]) < model.perplexity(["owl the of head the"])
