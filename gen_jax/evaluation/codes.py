"""How well a VQ-VAE gives held-out images back, and how many of its codes it needs for that."""

import dataclasses

import numpy as np
from PIL import Image

from gen_jax.common import pictures
from gen_jax.encoders import image_distance
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out
from gen_jax.evaluation.judge import features_by
from gen_jax.evaluation.reconstruction import compare
from gen_jax.evaluation.untrained import suffix
from gen_jax.metrics import frechet, kid
from gen_jax.metrics.interval import of_mean

_LEAST_ROWS = 4  # of a kernel distance
# A code map has as many colours as it takes to tell neighbours apart.
_COLOURS = np.random.default_rng(0).integers(32, 256, (4096, 3)).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Codes(Evaluator):
    """Reconstruction of a held-out split, and the use of the codebook on it.

    Attributes:
      split: the split to read.
      count: images at most.
      batch_size: images at once.
      shown: images in the picture.
      encoder: of LPIPS, "NAME:WEIGHTS"; none, no LPIPS.
      features: of the distances between sets, "NAME:WEIGHTS"; "" is an untrained network.
    """

    split: str = "val"
    count: int = 512
    batch_size: int = 32
    shown: int = 8
    encoder: str = ""
    features: str = ""

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count, is_optional=True),)

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder, self.features)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `psnr` (dB), `ssim`, `lpips` with its interval, `rfd` and `rkid` (Frechet and
        kernel distance of reconstructions to the images), `usage` (share of the codes that occur)
        and `perplexity`; pictures `reconstruction`: image, result and map of codes below each
        other, and `reconstruction_worst`, the same of those with the lowest PSNR.
        """
        batch, warnings = held_out(data, self.split, self.count)
        images = batch["image"]
        if not len(images):
            return Result({}, warnings=warnings)
        found = predict.batched("reconstruct", {"image": images}, self.batch_size)
        out, codes = found["image"], found["codes"]
        metrics = distances(predict, images, out, self.encoder, self.features)
        metrics |= use_of(codes, predict.task.quantizer.num_codes)
        error = ((images.astype(np.float32) - out) ** 2).mean((1, 2, 3))
        worst = np.argsort(-error)
        shown = {
            "reconstruction": _picture(images, out, codes, self.shown),
            "reconstruction_worst": _picture(images[worst], out[worst], codes[worst], self.shown),
        }
        return Result(metrics, shown, warnings=warnings)


def distances(
    predict: Predictor, images: np.ndarray, out: np.ndarray, encoder: str, features: str
) -> dict[str, float]:
    """Returns `psnr`, `ssim`, `lpips`, `rfd` and `rkid` of reconstructions; encoders as in `Codes`.

    The names of the last two end in `_untrained` if `features` names no encoder.
    """
    metrics = compare(images, out)
    if encoder:
        metrics |= of_mean(image_distance.open_distance(encoder)(images, out)).named("lpips")
    if len(images) >= _LEAST_ROWS:
        real, made = (features_by(features, predict, v) for v in (images, out))
        metrics[f"rfd{suffix(features)}"] = float(frechet.frechet(real, made))
        metrics |= kid.kernel_distance(real, made).named(f"rkid{suffix(features)}")
    return metrics


def use_of(codes: np.ndarray, num_codes: int) -> dict[str, float]:
    """`usage` and `perplexity` of codes [n, h, w, d], means over the levels of depth."""
    usage, perplexity = [], []
    for level in range(codes.shape[-1]):
        counts = np.bincount(codes[..., level].ravel(), minlength=num_codes)
        p = counts[counts > 0] / counts.sum()
        usage.append(np.mean(counts > 0))
        perplexity.append(np.exp(-(p * np.log(p)).sum()))
    return {"usage": float(np.mean(usage)), "perplexity": float(np.mean(perplexity))}


def code_map(codes: np.ndarray, size: int) -> np.ndarray:
    """Codes [h, w] as squares of colours, uint8 [size, size, 3]."""
    coloured = Image.fromarray(_COLOURS[codes % len(_COLOURS)])
    return np.asarray(coloured.resize((size, size), Image.Resampling.NEAREST))


def _picture(images, out, codes, shown):
    shown = min(shown, len(images))
    maps = [code_map(c[..., 0], images.shape[1]) for c in codes[:shown]]
    rows = np.concatenate([images[:shown], out[:shown], np.stack(maps)])
    return pictures.grid(rows, columns=shown)
