"""How well a restorer does on held-out crops that the loader's degradations made."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.data.degradations.base import to_bytes
from gen_jax.evaluation.base import Data, Predictor, Result
from gen_jax.evaluation.reconstruction import compare


@dataclasses.dataclass(frozen=True)
class RestoredCrops:
    """PSNR and SSIM of restored 8-bit crops, and of the degraded ones that they came from.

    Attributes:
      split: the split to read.
      count: crops at most.
      batch_size: crops at once.
      shown: rows of the picture.
    """

    split: str = "val"
    count: int = 128
    batch_size: int = 32
    shown: int = 8

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `psnr`, `ssim`, `psnr_degraded`, `ssim_degraded`; picture `restored`.

        The picture has degraded, restored and clean crops beside each other.
        """
        batch = data.read(self.split, self.count)
        given = {k: batch[k] for k in ("degraded", "degradation")}
        found = predict.batched("restore", given, self.batch_size)["restored"]
        clean, degraded, restored = batch["image"], to_bytes(batch["degraded"]), to_bytes(found)
        metrics = compare(clean, restored)
        metrics |= {f"{k}_degraded": v for k, v in compare(clean, degraded).items()}
        rows = np.stack([degraded, restored, clean], 1)[: self.shown]
        rows = np.broadcast_to(rows, (*rows.shape[:-1], 3)).reshape(-1, *clean.shape[1:3], 3)
        return Result(metrics, {"restored": pictures.grid(rows, columns=6)})
