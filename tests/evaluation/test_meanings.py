"""What reports say of each metric."""

import numpy as np
import pytest

from gen_jax.evaluation import EVALUATORS, Evaluator, Result, image_metrics, meanings, run_all
from gen_jax.evaluation.codes import Codes
from gen_jax.evaluation.meanings import HIGHER, LOWER, Meaning
from tests.evaluation.known import Answers, Known


def test_every_evaluator_and_image_metric_has_meanings():
    assert set(meanings._MEANINGS) == set(EVALUATORS)
    for table in meanings._MEANINGS.values():
        assert all(m.text.endswith(".") and m.text[0].isupper() for m in table.values())
    for name in {*image_metrics.METRICS} - {"prdc"}:  # of which each part has one
        assert meanings.of("image_quality", name), name


@pytest.mark.parametrize(
    ("evaluator", "metric", "good", "words"),
    [
        ("codes", "psnr", HIGHER, "in dB"),
        ("codes", "rfd_untrained", LOWER, "Fréchet distance between features of reconstructions"),
        ("codes", "rfd_untrained", LOWER, "Untrained features"),
        ("codes", "lpips_low", "", "Lower end of the 95% interval of lpips."),
        ("detail", "rkid_untrained_decoded", "", "Without the drawn detail"),
        ("art_samples", "kid_untrained_over_random", LOWER, "over that of random codes"),
        ("image_quality", "fd_untrained", LOWER, "Untrained features"),
        ("image_quality", "fd_dinov2-small_high", "", "Upper end"),
        ("adjectives", "probe_accuracy/dark", HIGHER, "judged by a probe"),
        ("adjectives", "probe_accuracy_empty", "below the score", "empty prompt"),
        ("prompt_accuracy", "probe_accuracy", "", "real images that the probe"),
        ("shapes_accuracy", "reader_accuracy", "", "real scenes"),
        ("shapes_accuracy", "heldout_pair_accuracy", HIGHER, "unseen in training"),
        ("shapes_accuracy", "background_accuracy", HIGHER, "show the prompt's background."),
        ("shapes_accuracy", "color_accuracy_shuffled", "at most chance", "other prompts"),
        ("prompt_robustness", "wording_accuracy/both", "near 0.5", "neither"),
        ("faces", "attribute_accuracy_empty/glasses", "below the score", "empty prompt"),
        ("instructed", "psnr_matching_denoise", HIGHER, "asks for"),
    ],
)
def test_a_name_has_the_meaning_that_its_evaluator_gives_it(evaluator, metric, good, words):
    meaning = meanings.of(evaluator, metric)
    assert meaning.good == good and words in meaning.text


def test_an_unknown_metric_has_none():
    assert meanings.of("codes", "speed") is None and meanings.of("nobody", "psnr") is None
    assert meanings.of("codes", "speed_low") is None
    assert meanings.of_all("codes", {"psnr": 1.0, "speed": 2.0}).keys() == {"psnr"}


def test_a_metric_without_a_meaning_fails_the_tests_of_evaluators(monkeypatch):
    tables = {**meanings._MEANINGS, "codes": {"psnr": Meaning("In dB.", HIGHER)}}
    monkeypatch.setattr(meanings, "_MEANINGS", tables)
    data = Known(val=2)

    def reconstruct(batch):
        return {"image": batch["image"], "codes": np.zeros((2, 2, 2, 1), np.int32)}

    with pytest.raises(AssertionError, match=r"codes: no meaning of \['perplexity', 'ssim'"):
        Codes(count=2)(Answers(reconstruct=reconstruct), data)


def test_all_evaluators_results_are_joined():
    class One(Evaluator):
        def __call__(self, predict, data):
            return Result({"psnr": 1.0, "odd": 2.0}, prompts={"samples": ["a cat"]})

    found = run_all({"codes": ("vqvae", One())}, Answers(), Known())
    assert found.meanings == {"vqvae/psnr": meanings.of("codes", "psnr")}
    assert found.prompts == {"samples": ["a cat"]}
