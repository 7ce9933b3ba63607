"""What drawn detail brings to reconstructions, and what it costs."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out
from gen_jax.evaluation.codes import distances


@dataclasses.dataclass(frozen=True)
class Detail(Evaluator):
    """Held-out reconstructions with detail beside the same as the decoder gave them.

    Detail that is drawn costs PSNR (it is another than the image's own) and is to bring the
    distances between sets down (arXiv 1711.06077).

    Attributes:
      split: the split to read.
      count: images at most.
      batch_size: images at once.
      shown: images in the picture.
      encoder: of LPIPS, "NAME:WEIGHTS"; none, no LPIPS.
      features: of the distances between sets, "NAME:WEIGHTS"; "" is an untrained network.
    """

    split: str = "val"
    count: int = 256
    batch_size: int = 32
    shown: int = 8
    encoder: str = ""
    features: str = ""

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count, is_optional=True),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `psnr` (dB), `ssim`, `lpips`, `rfd` and `rkid` as of `Codes` with detail, and
        with `_decoded` after them without; `contrast` and `contrast_decoded`, the mean step
        between neighbouring pixels over the images'. Picture `detail`: images, what the decoder
        gives, and with detail, below each other.
        """
        batch, warnings = held_out(data, self.split, self.count)
        images = batch["image"]
        if not len(images):
            return Result({}, warnings=warnings)
        found = predict.batched("reconstruct", {"image": images}, self.batch_size)
        metrics = {}
        for key, after in (("image", ""), ("decoded", "_decoded")):
            out = found[key]
            of = distances(predict, images, out, self.encoder, self.features)
            of["contrast"] = _step(out) / max(_step(images), 1e-9)
            metrics |= {f"{name}{after}": value for name, value in of.items()}
        shown = min(self.shown, len(images))
        rows = np.concatenate([v[:shown] for v in (images, found["decoded"], found["image"])])
        return Result(metrics, {"detail": pictures.grid(rows, columns=shown)}, warnings=warnings)


def _step(images: np.ndarray) -> float:
    """Mean absolute difference of neighbouring pixels, both ways."""
    x = images.astype(np.float32)
    return float(np.mean([np.abs(np.diff(x, axis=axis)).mean() for axis in (1, 2)]))
