"""How well one latent decodes to an image and to its caption."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gen_jax.common import pictures
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result
from gen_jax.evaluation.judge import features_by
from gen_jax.evaluation.reconstruction import compare
from gen_jax.metrics import captions as caption_metrics

_LEAST_ROWS = 20  # below them an R@10 says nothing


@dataclasses.dataclass(frozen=True)
class CaptionedImages(Evaluator):
    """Reconstructions and captions of held-out images, retrieval, and captioned samples.

    Attributes:
      split: Split to read.
      count: Number of images at most.
      train: Number of training images at most that the nearest one is looked for among.
      samples: Number of seeds that images and captions are generated from.
      batch_size: Number of images at once.
      encoder: Encoder that decides which training image is the nearest, "NAME:WEIGHTS"; "" is an
        untrained network.
      shown: Number of images in each picture.
    """

    split: str = "val"
    count: int = 256
    train: int = 4096
    samples: int = 64
    batch_size: int = 32
    encoder: str = ""
    shown: int = 16

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count), Reads("train", self.train))

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `psnr` (dB) and `ssim`; `cider` (CIDEr-D) and `bleu4` of the captions, with
        `cider_nearest`, the score of the nearest training image's caption; `r_at_10_image_to_text`
        and `r_at_10_text_to_image` among the images read, with `r_at_10_chance`; `loop_rate` and
        `distinct_captions` of samples. Pictures `captions`: each image and its reconstruction above
        the generated caption, and `samples`, from seeds.
        """
        batch = data.read(self.split, self.count)
        images, true = batch["image"], _captions_of(data, self.split, batch["index"])
        found = predict.batched("reconstruct", {"image": images}, self.batch_size)
        texts = data.detokenize(found["caption"])
        metrics = compare(images, found["image"])
        metrics |= self._scores(predict, data, images, texts, true)
        metrics |= self._retrieval(predict, data, images, true)
        made, described = self._sampled(predict, data)
        if described:
            metrics["loop_rate"] = float(np.mean([has_loop(text) for text in described]))
            metrics["distinct_captions"] = len(set(described)) / len(described)
        return Result(
            metrics,
            {
                "captions": _pairs(images, found["image"], true, texts, self.shown),
                **({"samples": _sheet(made, described, self.shown)} if described else {}),
            },
        )

    def _scores(self, predict, data, images, texts, true) -> dict[str, float]:
        known = data.read("train", self.train)
        theirs = _captions_of(data, "train", known["index"])
        queries, keys = (features_by(self.encoder, predict, v) for v in (images, known["image"]))
        distance = (keys**2).sum(1)[None] - 2.0 * queries @ keys.T
        nearest = [(theirs[i] or ("",))[0] for i in distance.argmin(1)]
        return {
            "cider": float(caption_metrics.cider_d(texts, true).mean()),
            "cider_nearest": float(caption_metrics.cider_d(nearest, true).mean()),
            "bleu4": caption_metrics.bleu(texts, true),
        }

    def _retrieval(self, predict, data, images, true) -> dict[str, float]:
        if len(images) < _LEAST_ROWS:
            return {}
        inputs = {"image": images, **data.tokenize([texts[0] for texts in true])}
        found = predict.batched("embed", inputs, self.batch_size)
        first, second = (
            found[key] / np.linalg.norm(found[key], axis=1, keepdims=True)
            for key in ("image_embedding", "text_embedding")
        )
        cosines = first @ second.T
        return {
            "r_at_10_image_to_text": recall_at(cosines, 10),
            "r_at_10_text_to_image": recall_at(cosines.T, 10),
            "r_at_10_chance": 10 / len(images),
        }

    def _sampled(self, predict, data):
        if not self.samples:
            return None, []
        seeds = np.arange(self.samples, dtype=np.uint32)
        inputs = {"seed": seeds, **data.tokenize([""] * self.samples)}
        found = predict.batched("generate", inputs, self.batch_size)
        return found["image"], data.detokenize(found["caption"])


def recall_at(scores: np.ndarray, k: int) -> float:
    """Returns the share of rows whose own column is among the k highest scores [n, n]."""
    own = np.diagonal(scores)[:, None]
    # Equal scores count as above: an embedding that does not vary finds nothing.
    return float(np.mean((scores >= own).sum(1) <= k))


def has_loop(caption: str) -> bool:
    """Returns whether three words in a row occur twice."""
    words = caption_metrics.words(caption)
    triples = list(zip(words, words[1:], words[2:]))
    return len(set(triples)) < len(triples)


def _captions_of(data: Data, split: str, indices: np.ndarray) -> list[Sequence[str]]:
    return [tuple(record.captions) or ("",) for record in data.records(split, indices)]


def _pairs(images, out, true, texts, shown) -> np.ndarray:
    """Returns each image above its caption, beside its reconstruction above the generated one."""
    shown = min(shown, len(images))
    pairs = np.stack([images[:shown], out[:shown]], 1).reshape(-1, *images.shape[1:])
    labels = [text for pair in zip(true, texts) for text in (pair[0][0], pair[1])]
    return pictures.grid(pairs, labels[: 2 * shown], columns=6, scale=_scale(images))


def _sheet(images, texts, shown) -> np.ndarray:
    return pictures.grid(images[:shown], texts[:shown], columns=6, scale=_scale(images))


def _scale(images) -> int:
    """Returns the enlargement at which a caption fits below an image."""
    return max(1, 256 // images.shape[1])
