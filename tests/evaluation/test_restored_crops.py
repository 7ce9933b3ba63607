"""The evaluators of restoration, on predictors whose answers are known."""

import pathlib
import types

import numpy as np
import pytest

from gen_jax.data.degradations import PARAMETERS
from gen_jax.data.text import instructions
from gen_jax.evaluation.base import Predictor
from gen_jax.evaluation.instructed import Instructed
from gen_jax.evaluation.restored_crops import EQUAL, RestoredCrops

COUNT = 12
RNG = np.random.default_rng(0)
CLEAN = RNG.integers(60, 200, (COUNT, 16, 16, 3)).astype(np.uint8)
ERROR = np.linspace(0.05, 1.0, COUNT)
NOISE = RNG.normal(size=CLEAN.shape) * ERROR[:, None, None, None] * 0.1


class Data:
    """Crops whose tokens say their kind, and the first of which is not damaged."""

    label_names, captions, source, folder = (), {}, "", pathlib.Path()

    def __init__(self, kinds=(1,)):
        self.kind = np.resize(np.asarray(kinds, np.int32), COUNT)

    def read(self, split, count):
        vector = np.zeros((COUNT, len(PARAMETERS)), np.float32)
        vector[:, PARAMETERS.index("error")] = ERROR
        degraded = np.float32(CLEAN / 255.0 + NOISE)
        degraded[0] = CLEAN[0] / 255.0
        tokens = np.zeros((COUNT, 4), np.int32)
        tokens[:, 1] = 1 + self.kind
        return {
            "image": CLEAN, "degraded": degraded, "degradation": vector, "kind": self.kind,
            "tokens": tokens, "token_mask": np.ones((COUNT, 4), bool),
        }  # fmt: skip

    def records(self, split, indices):
        return []

    def detokenize(self, tokens):
        return [""] * len(tokens)

    def tokenize(self, texts):
        tokens = np.zeros((len(texts), 4), np.int32)
        for row, text in enumerate(texts):
            kinds = [k for k, group in instructions.SENTENCES.items() if text in group]
            tokens[row, 1] = 1 + instructions.KINDS.index(kinds[0]) if kinds else 0
        return {"tokens": tokens, "token_mask": np.ones((len(texts), 4), bool)}


class Predict(Predictor):
    """Restores perfectly what is asked for by the right words, by half without words."""

    task = types.SimpleNamespace(predict_fns=lambda: {"restore": None, "estimate": None})

    def __init__(self, kind):
        self.kind, self.told = kind, []

    def batched(self, name, batch, size):
        if name == "estimate":
            vector = np.zeros((COUNT, len(PARAMETERS)), np.float32)
            vector[:, PARAMETERS.index("error")] = ERROR + 0.02
            return {"estimate": vector[: len(batch["degraded"])]}
        self.told.append(batch["degradation"])
        clean = CLEAN[: len(batch["degraded"])] / 255.0
        asked = batch["tokens"][:, 1] - 1
        share = np.select([asked == self.kind[: len(asked)], asked < 0], [1.0, 0.5], 0.0)
        out = batch["degraded"] + share[:, None, None, None] * (clean - batch["degraded"])
        return {"restored": np.float32(out), "gate": batch["degradation"][:, -1]}


def test_estimates_are_what_the_network_goes_by_and_are_judged():
    data = Data()
    predict = Predict(data.kind)
    found = RestoredCrops(shown=2)(predict, data)
    assert found.metrics["psnr"] == EQUAL, "equal crops are no infinity"
    assert 15 < found.metrics["psnr_degraded"] < EQUAL
    assert found.metrics["error_error"] == pytest.approx(0.02 * 50, rel=1e-4)
    assert found.metrics["sigma_error"] == 0
    assert found.metrics["gate_severity"] == pytest.approx(1.0)
    assert predict.told[0][0, -1] == pytest.approx(0.07)
    assert found.pictures["restored"].ndim == 3


def test_matching_words_do_better_than_none_and_none_better_than_wrong_ones():
    kinds = [instructions.KINDS.index(k) for k in ("restore", "denoise", "sharpen")]
    data = Data(kinds)
    found = Instructed()(Predict(data.kind), data).metrics
    assert found["psnr_matching"] == EQUAL
    assert found["psnr_degraded"] == pytest.approx(found["psnr_wrong"], abs=0.2)
    assert EQUAL > found["psnr_empty"] > found["psnr_wrong"] + 3
    assert found["psnr_matching"] > found["psnr_shuffled"]
    assert found["psnr_matching_sharpen"] == EQUAL


def test_without_requests_there_is_nothing_to_measure():
    data = Data([instructions.KINDS.index("keep")])
    result = Instructed()(Predict(data.kind), data)
    assert not result.metrics and "no request" in result.notes["psnr_matching"]
