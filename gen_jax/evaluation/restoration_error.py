"""Whether the expected error of restored crops follows the true one."""

import dataclasses

import numpy as np
from scipy import ndimage, stats

from gen_jax.common import pictures
from gen_jax.data.degradations.base import to_bytes
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result

# Errors of single pixels are mostly chance: their means over this many pixels a side are compared.
_WINDOW = 5


@dataclasses.dataclass(frozen=True)
class RestorationError(Evaluator):
    """Compares expected with true errors, and with what needs no training.

    Attributes:
      split: Split to read.
      count: Number of crops at most.
      batch_size: Number of crops at once.
      shown: Number of rows in the picture.
    """

    split: str = "val"
    count: int = 128
    batch_size: int = 16
    shown: int = 8

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns rank correlations with the true error, means over 5x5 pixels of all crops.

        `spearman` is that of the expected error; `spearman_edit` of how much the restorer changed,
        and `spearman_gradient` of the restored crop's gradient, are the baselines. `ratio` is the
        mean expected over the mean true error, and `nll` the Laplace likelihood. The picture
        `expected_error` has degraded, restored, true error and expected error beside each other.
        """
        batch = data.read(self.split, self.count)
        given = {"degraded": batch["degraded"]}
        estimate = predict.batched("estimate", given, self.batch_size)["estimate"]
        out = predict.batched("error", {**given, "degradation": estimate}, self.batch_size)
        expected, clean = out["error"][..., 0], np.float32(batch["image"]) / 255.0
        restored = np.clip(out["restored"], 0.0, 1.0)
        true = 255.0 * np.abs(restored - clean).mean(-1)
        edit = 255.0 * np.abs(restored - batch["degraded"]).mean(-1)
        gray = restored.mean(-1)
        gradient = np.hypot(*(ndimage.sobel(gray, axis) for axis in (1, 2)))
        maps = {"": expected, "_edit": edit, "_gradient": gradient}
        target = _smooth(true)
        metrics = {
            f"spearman{name}": float(stats.spearmanr(_smooth(v), target).statistic)
            for name, v in maps.items()
        }
        metrics["ratio"] = float(expected.mean() / max(true.mean(), 1e-6))
        metrics["nll"] = float((np.log(expected) + true / expected).mean())
        rows = [to_bytes(batch["degraded"]), to_bytes(restored), _gray(true), _gray(expected)]
        rows = [np.broadcast_to(r[: self.shown], (*r[: self.shown].shape[:3], 3)) for r in rows]
        shown = np.stack(rows, 1).reshape(-1, *clean.shape[1:3], 3)
        return Result(metrics, {"expected_error": pictures.grid(shown, columns=4)})


def _smooth(x: np.ndarray) -> np.ndarray:
    """Returns means over windows that do not overlap, flat."""
    side = [n // _WINDOW * _WINDOW for n in x.shape[1:]]
    cells = x[:, : side[0], : side[1]].reshape(
        len(x), side[0] // _WINDOW, _WINDOW, side[1] // _WINDOW, _WINDOW
    )
    return cells.mean((2, 4)).ravel()


def _gray(error: np.ndarray) -> np.ndarray:
    """Returns errors as gray levels, white from 32 of 255 on: uint8 [n, h, w, 1]."""
    return np.clip(8.0 * error, 0, 255).astype(np.uint8)[..., None]
