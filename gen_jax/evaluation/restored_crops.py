"""How well a restorer does on held-out crops that the loader's degradations made."""

import dataclasses

import numpy as np
from scipy import stats

from gen_jax.common import pictures
from gen_jax.data.degradations import PARAMETERS
from gen_jax.data.degradations.base import SCALES, to_bytes
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result
from gen_jax.metrics.psnr import psnr
from gen_jax.metrics.ssim import ssim

EQUAL = 60.0
"""What no PSNR of a crop exceeds, in dB."""

_READ = ("degraded", "degradation", "tokens", "token_mask")


@dataclasses.dataclass(frozen=True)
class RestoredCrops(Evaluator):
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

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `psnr`, `ssim`, `psnr_degraded`, `ssim_degraded`; picture `restored`. A crop that
        equals the clean one counts `EQUAL` dB: a mean of infinities would rank no checkpoint.

        Of a network with an estimator, which then goes by its estimates, also the mean absolute
        error of each, `NAME_error` in its unit, and `gate_severity`, Spearman's correlation of the
        mean gate with the true distance from the clean picture.

        The picture has degraded, restored and clean crops beside each other.
        """
        batch = data.read(self.split, self.count)
        given = {k: batch[k] for k in _READ if k in batch}
        truth, metrics = batch["degradation"], {}
        if "estimate" in predict.task.predict_fns():
            seen = {"degraded": batch["degraded"]}
            estimate = predict.batched("estimate", seen, self.batch_size)["estimate"]
            given["degradation"] = estimate
            for index, name in enumerate(PARAMETERS):
                error = np.abs(estimate[:, index] - truth[:, index]).mean()
                metrics[f"{name}_error"] = float(error * SCALES[name])
        found = predict.batched("restore", given, self.batch_size)
        if "gate" in found and np.ptp(found["gate"]) > 0:
            severity = truth[:, PARAMETERS.index("error")]
            metrics["gate_severity"] = float(stats.spearmanr(found["gate"], severity).statistic)
        clean, degraded = batch["image"], to_bytes(batch["degraded"])
        restored = to_bytes(found["restored"])
        metrics |= compare(clean, restored)
        metrics |= {f"{k}_degraded": v for k, v in compare(clean, degraded).items()}
        rows = np.stack([degraded, restored, clean], 1)[: self.shown]
        rows = np.broadcast_to(rows, (*rows.shape[:-1], 3)).reshape(-1, *clean.shape[1:3], 3)
        return Result(metrics, {"restored": pictures.grid(rows, columns=6)})


def crops_psnr(target: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Of each uint8 crop, in dB, at most `EQUAL`."""
    return np.minimum(np.asarray(psnr(np.float32(target), np.float32(found), 255.0)), EQUAL)


def compare(clean: np.ndarray, restored: np.ndarray) -> dict[str, float]:
    """Returns mean `psnr` in dB, of each crop at most `EQUAL`, and mean `ssim` of uint8 crops."""
    structure = ssim(np.float32(clean), np.float32(restored), data_range=255.0)
    return {"psnr": float(crops_psnr(clean, restored).mean()), "ssim": float(np.mean(structure))}
