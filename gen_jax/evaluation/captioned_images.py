"""How well one latent decodes to an image and to its caption."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from gen_jax.common import pictures
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result
from gen_jax.evaluation.judge import features_by
from gen_jax.evaluation.reconstruction import compare
from gen_jax.metrics import captions as caption_metrics
from gen_jax.metrics import interval

_LEAST_ROWS = 20  # below them an R@10 says nothing
_PIXELS = 32  # side that images are compared at pixel by pixel


@dataclasses.dataclass(frozen=True)
class CaptionedImages(Evaluator):
    """Reconstructions and captions of held-out images, and retrieval of either by the other.

    Attributes:
      split: Split to read.
      count: Number of images at most.
      train: Number of training images at most that the nearest one is looked for among.
      batch_size: Number of images at once.
      encoder: Encoder that decides which training image is the nearest, "NAME:WEIGHTS"; "" is an
        untrained network.
      shown: Number of images in the picture.
    """

    split: str = "val"
    count: int = 256
    train: int = 10_000
    batch_size: int = 32
    encoder: str = ""
    shown: int = 18

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count), Reads("train", self.train))

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `psnr` (dB) and `ssim`; `cider` (CIDEr-D), `bleu4` and `exact_words` of the
        captions. Controls are the captions of the nearest training image by features
        (`cider_nearest`, `exact_words_nearest`) and by pixels (`cider_nearest_pixels`), and the
        most frequent caption (`cider_mode`); `cider_minus_nearest` has a paired bootstrap interval.
        Retrieval among the images read: `r_at_1`, `r_at_5` and `r_at_10`, each
        `_image_to_text` and `_text_to_image`, with `r_at_10_chance`. Picture `captions`: each image
        and its reconstruction above the generated caption.
        """
        batch = data.read(self.split, self.count)
        images, true = batch["image"], captions_of(data, self.split, batch["index"])
        out = predict.batched("reconstruct", {"image": images}, self.batch_size)
        texts = data.detokenize(out["caption"])
        metrics = compare(images, out["image"])
        metrics |= self._scores(predict, data, images, texts, true)
        metrics |= self._retrieval(predict, data, images, true)
        return Result(metrics, {"captions": _pairs(images, out["image"], true, texts, self.shown)})

    def _scores(self, predict, data, images, texts, true) -> dict[str, float]:
        known = data.read("train", self.train)
        theirs = [texts[0] for texts in captions_of(data, "train", known["index"])]
        by_features = _nearest(
            *(features_by(self.encoder, predict, v) for v in (images, known["image"]))
        )
        by_pixels = _nearest(_pixels(images), _pixels(known["image"]))
        nearest = [theirs[i] for i in by_features]
        mode = collections.Counter(theirs).most_common(1)[0][0]
        scores = {
            "cider": caption_metrics.cider_d(texts, true),
            "cider_nearest": caption_metrics.cider_d(nearest, true),
            "cider_nearest_pixels": caption_metrics.cider_d([theirs[i] for i in by_pixels], true),
            "cider_mode": caption_metrics.cider_d([mode] * len(true), true),
        }
        difference = interval.of_mean(scores["cider"] - scores["cider_nearest"])
        return {
            **{name: float(each.mean()) for name, each in scores.items()},
            **difference.named("cider_minus_nearest"),
            "bleu4": caption_metrics.bleu(texts, true),
            "exact_words": caption_metrics.exact_words(texts, true),
            "exact_words_nearest": caption_metrics.exact_words(nearest, true),
        }

    def _retrieval(self, predict, data, images, true) -> dict[str, float]:
        if len(images) < _LEAST_ROWS:
            return {}
        inputs = {"image": images, **data.tokenize([texts[0] for texts in true])}
        out = predict.batched("embed", inputs, self.batch_size)
        first, second = (
            out[key] / np.linalg.norm(out[key], axis=1, keepdims=True)
            for key in ("image_embedding", "text_embedding")
        )
        cosines = first @ second.T
        metrics = {"r_at_10_chance": 10 / len(images)}
        for k in (1, 5, 10):
            metrics[f"r_at_{k}_image_to_text"] = recall_at(cosines, k)
            metrics[f"r_at_{k}_text_to_image"] = recall_at(cosines.T, k)
        return metrics


def recall_at(scores: np.ndarray, k: int) -> float:
    """Returns the share of rows whose own column is among the k highest scores [n, n]."""
    own = np.diagonal(scores)[:, None]
    # Equal scores count as above: an embedding that does not vary finds nothing.
    return float(np.mean((scores >= own).sum(1) <= k))


def captions_of(data: Data, split: str, indices: np.ndarray) -> list[Sequence[str]]:
    """Returns the captions of each record, one empty caption if it has none."""
    return [tuple(record.captions) or ("",) for record in data.records(split, indices)]


def sheet_scale(images: np.ndarray) -> int:
    """Returns the enlargement at which a caption fits below an image."""
    return max(1, 256 // images.shape[1])


def _nearest(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Returns the row of `keys` that is nearest to each query."""
    return ((keys**2).sum(1)[None] - 2.0 * queries @ keys.T).argmin(1)


def _pixels(images: np.ndarray) -> np.ndarray:
    """Returns images at a small size, as rows [n, d]."""
    step = max(1, images.shape[1] // _PIXELS)
    side = images.shape[1] // step * step
    cut = images[:, :side, :side].astype(np.float32).mean(-1)
    small = cut.reshape(len(cut), side // step, step, side // step, step).mean((2, 4))
    return small.reshape(len(small), -1)


def _pairs(images, out, true, texts, shown) -> np.ndarray:
    """Returns each image above its caption, beside its reconstruction above the generated one."""
    shown = min(shown, len(images))
    pairs = np.stack([images[:shown], out[:shown]], 1).reshape(-1, *images.shape[1:])
    labels = [text for pair in zip(true, texts) for text in (pair[0][0], pair[1])]
    return pictures.grid(pairs, labels[: 2 * shown], columns=6, scale=sheet_scale(images))
