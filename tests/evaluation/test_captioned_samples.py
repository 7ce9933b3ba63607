"""Samples with captions: what is compared with what, on a decoder that is known."""

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.evaluation.captioned_samples import CaptionedSamples
from gen_jax.evaluation.latent_mixture import sample_mixture
from tests.evaluation.known import Answers, Known, texts

SIDE, COUNT = 32, 40


class Captioned(Known):
    """Images of one gray value each, whose captions say whether they are dark."""

    def read(self, split, count):
        batch = super().read(split, count)
        value = np.linspace(40, 215, len(batch["index"])).astype(np.uint8)
        stripes = np.arange(SIDE, dtype=np.uint8)[None, None, :, None]
        image = value[:, None, None, None] + np.broadcast_to(stripes, (1, SIDE, SIDE, 3))
        return {**batch, "image": image.astype(np.uint8)}

    def records(self, split, indices):
        names = ["A dark wood" if 2 * i < COUNT else "A bright sky" for i in indices]
        return [type("Record", (), {"captions": (name,)}) for name in names]

    def detokenize(self, tokens):
        return texts({"tokens": tokens})


def evaluated(prior):
    """Returns the result of samples with the latents `prior` [n, 8]."""
    data = Captioned(train=COUNT)

    def decode(latent):
        value = np.clip(128 + 64 * latent[:, 0], 0, 223).astype(np.uint8)
        stripes = np.arange(SIDE, dtype=np.uint8)[None, None, :, None]
        image = value[:, None, None, None] + np.broadcast_to(stripes, (1, SIDE, SIDE, 3))
        said = ["a dark wood" if v < 128 else "a bright sky" for v in value]
        return {"image": image.astype(np.uint8), "caption": data.tokenize(said)["tokens"]}

    def encode(batch):
        value = batch["image"].mean((1, 2, 3)) - SIDE / 2
        rest = np.random.default_rng(0).normal(size=(len(value), 7)) * 0.1
        return {"latent": np.concatenate([(value[:, None] - 128) / 64, rest], 1)}

    predict = Answers(
        encode=encode,
        decode=lambda batch: decode(batch["latent"]),
        generate=lambda batch: decode(prior[: len(batch["seed"])]),
    )
    return CaptionedSamples(count=COUNT, train=COUNT, components=2, least=2, shown=4)(predict, data)


def test_a_prior_like_the_data_is_close_and_coherent():
    uniform = np.random.default_rng(1).uniform(-1.3, 1.3, (COUNT, 8)).astype(np.float32)
    result = evaluated(uniform)
    found = result.metrics
    assert result.pictures.keys() == {"samples", "mixture", "normal"}
    assert found["kid_prior_minus_mixture_low"] < 0.01
    assert found["coherence"] > found["coherence_shuffled"] and found["coherence_p_value"] < 0.01
    assert found["loop_rate"] == 0 and found["distinct_captions"] == 2 / COUNT
    assert found["perplexity"] < 20 and found["blank"] == 0
    # A prior of one image alone lies farther away.
    narrow = evaluated(np.full((COUNT, 8), 1.4, np.float32)).metrics
    assert narrow["kid_prior"] > found["kid_prior"]
    assert narrow["kid_prior_minus_mixture_low"] > 0


def test_a_mixture_has_the_clusters_and_the_spread_of_its_data():
    rng = np.random.default_rng(0)
    centers = np.array([[4.0, 0, 0], [-4.0, 2.0, 0]])
    data = centers[rng.integers(0, 2, 400)] + rng.normal(size=(400, 3)) * [0.1, 0.1, 1.0]
    drawn = sample_mixture(data, 2000, components=2, dimensions=2)
    assert drawn.dtype == np.float32
    assert (np.abs(np.abs(drawn[:, 0]) - 4) < 1).mean() > 0.99  # nothing between the clusters
    np.testing.assert_allclose(drawn.mean(0), data.mean(0), atol=0.3)
    np.testing.assert_allclose(drawn.std(0), data.std(0), rtol=0.1)
    with pytest.raises(UserError, match="400 latents are too few, expected at least 800"):
        sample_mixture(data, 1, components=200)
