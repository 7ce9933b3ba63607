"""How well an autoencoder gives images back."""

import dataclasses

import numpy as np

from gen_jax.common import pictures, pixels
from gen_jax.encoders import image_distance
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result
from gen_jax.metrics import psnr as psnr_lib
from gen_jax.metrics import ssim as ssim_lib
from gen_jax.metrics.interval import of_mean


@dataclasses.dataclass(frozen=True)
class Reconstruction(Evaluator):
    """PSNR, SSIM and LPIPS of reconstructed 8-bit images, means over images of a held-out split.

    Attributes:
      split: the split to read.
      count: images at most.
      batch_size: images at once.
      shown: pairs in the picture.
      encoder: of LPIPS, "NAME:WEIGHTS"; none, no LPIPS.
    """

    split: str = "val"
    count: int = 256
    batch_size: int = 64
    shown: int = 16
    encoder: str = ""

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count),)

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `psnr` (dB), `ssim`, `lpips` with its 95% interval; picture `reconstruction`.

        The picture has each original beside its result.
        """
        images = data.read(self.split, self.count)["image"]
        out = predict.batched("reconstruct", {"image": images}, self.batch_size)["image"]
        shown = min(self.shown, len(images))
        pairs = np.stack([images[:shown], out[:shown]], 1).reshape(-1, *images.shape[1:])
        picture = pictures.grid(pairs, columns=8)
        metrics = compare(images, out)
        if self.encoder:
            distances = image_distance.open_distance(self.encoder)(images, out)
            metrics |= of_mean(distances).named("lpips")
        return Result(metrics, {"reconstruction": picture})


def compare(images: np.ndarray, out: np.ndarray) -> dict[str, float]:
    """Mean `psnr` and `ssim` of two stacks of uint8 images `[n, h, w, 3]`."""
    a, b = pixels.to_unit(images), pixels.to_unit(out)
    return {
        "psnr": float(np.mean(psnr_lib.psnr(a, b, data_range=1.0))),
        "ssim": float(np.mean(ssim_lib.ssim(a, b, data_range=1.0))),
    }
