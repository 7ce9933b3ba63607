"""What a generative stage adds to a restorer: distortion, perception, consistency, variance."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.data.degradations.base import to_bytes
from gen_jax.encoders.image_distance import open_distance
from gen_jax.encoders.image_features import open_features
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result
from gen_jax.evaluation.restored_crops import compare
from gen_jax.metrics import interval, kid
from gen_jax.metrics.psnr import psnr

_READ = ("degraded", "degradation", "tokens", "token_mask")
_FEATURES = "dino_tiny"
# Side of the squares whose means restoration must keep: noise, blur and JPEG hardly change them.
_CELL = 4


@dataclasses.dataclass(frozen=True)
class GenerativeRestoration(Evaluator):
    """Compares the generated and the restorer's crops with the clean ones.

    Attributes:
      split: Split to read.
      count: Number of crops at most.
      batch_size: Number of crops at once.
      shown: Number of rows in the picture.
      seeds: Number of seeds of which the standard deviation is taken, of a quarter of the crops.
      encoder: Encoder of LPIPS, "NAME:WEIGHTS"; "" leaves the row out.
    """

    split: str = "val"
    count: int = 128
    batch_size: int = 16
    shown: int = 8
    seeds: int = 8
    encoder: str = ""

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count, least=4),)

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,) if self.encoder else ()

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns the metrics of the generated crops, and after `_first_stage` of the restorer's.

        `psnr` and `ssim`; `kid`, the kernel distance of `dino_tiny`'s features to the clean crops
        with a 95% bootstrap interval; `lpips` if there is an encoder; `consistency`, the PSNR of
        means over 4x4 pixels against those of the degraded crop. `seed_std` is the standard
        deviation over seeds, in 8-bit units. The picture `restored` has degraded, restorer's,
        generated (two seeds) and clean crops beside each other.
        """
        batch = data.read(self.split, self.count)
        given = {key: batch[key] for key in _READ if key in batch}
        if "estimate" in predict.task.predict_fns():
            seen = {"degraded": batch["degraded"]}
            given["degradation"] = predict.batched("estimate", seen, self.batch_size)["estimate"]
        given["strength"] = np.ones(len(batch["image"]), np.float32)
        clean = batch["image"]
        drawn = self._drawn(predict, given, len(clean), 0)
        images = {"": to_bytes(drawn["restored"]), "_first_stage": to_bytes(drawn["first_stage"])}
        metrics: dict[str, float] = {}
        encode = open_features(_FEATURES, side=clean.shape[1] - clean.shape[1] % 8)
        real = encode(clean)
        for name, made in images.items():
            found = compare(clean, made)
            distance = interval.bootstrap(kid.mmd2, real, encode(made), seed=0).named("kid")
            found |= {**distance, "consistency": _consistency(made, to_bytes(batch["degraded"]))}
            if self.encoder:
                found["lpips"] = float(np.mean(open_distance(self.encoder)(clean, made)))
            metrics |= {f"{key}{name}": value for key, value in found.items()}
        few = {key: rows[: max(1, len(clean) // 4)] for key, rows in given.items()}
        count = len(few["degraded"])
        others = [
            np.float32(to_bytes(self._drawn(predict, few, count, seed)["restored"]))
            for seed in range(self.seeds)
        ]
        metrics["seed_std"] = float(np.std(others, axis=0).mean())
        rows = [to_bytes(batch["degraded"])[:count], images["_first_stage"][:count]]
        rows += [others[0].astype(np.uint8), others[-1].astype(np.uint8), clean[:count]]
        shown = np.stack(rows, 1)[: self.shown].reshape(-1, *clean.shape[1:])
        return Result(metrics, {"restored": pictures.grid(shown, columns=len(rows))})

    def _drawn(self, predict, given, count, seed):
        seeds = (np.arange(count) + 1000 * seed).astype(np.uint32)
        return predict.batched("restore", {**given, "seed": seeds}, self.batch_size)


def _consistency(images: np.ndarray, degraded: np.ndarray) -> float:
    """Returns the PSNR in dB between the means of squares of two sets of crops."""
    a, b = (
        np.float32(v[:, : v.shape[1] // _CELL * _CELL, : v.shape[2] // _CELL * _CELL])
        .reshape(len(v), v.shape[1] // _CELL, _CELL, v.shape[2] // _CELL, _CELL, 3)
        .mean((2, 4))
        for v in (images, degraded)
    )
    return float(np.minimum(np.asarray(psnr(a, b, 255.0)), 60.0).mean())
