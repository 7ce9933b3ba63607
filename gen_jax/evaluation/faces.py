"""What a generator without prompts draws, by seeds: a sheet, and how it is spread beside real."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.common.errors import UserError
from gen_jax.encoders import image_features
from gen_jax.evaluation.base import Data, Predictor, Result
from gen_jax.evaluation.untrained import random_features
from gen_jax.metrics import frechet, kid
from gen_jax.metrics.prdc import prdc

_NEAREST = 5


@dataclasses.dataclass(frozen=True)
class Faces:
    """Samples of seeds 0, 1, ... against held-out images.

    Attributes:
      split: the split to compare with.
      count: real images at most, and samples.
      batch_size: samples at once.
      encoder: "NAME[:WEIGHTS]" of the tower that distances are taken in: another one than that of
        the loss; "" is an untrained network, whose numbers compare within a data set alone.
      shown: samples in the picture.
    """

    split: str = "val"
    count: int = 512
    batch_size: int = 64
    encoder: str = ""
    shown: int = 64

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `fd`, `kid`, `precision`, `recall`, `diversity`; picture `samples`."""
        real = data.read(self.split, self.count)["image"]
        seeds = np.arange(self.count, dtype=np.uint32)
        made = predict.batched("generate", {"seed": seeds}, self.batch_size)["image"]
        picture = {"samples": pictures.grid(made[: self.shown], columns=8)}
        if len(real) <= _NEAREST or len(made) <= _NEAREST:
            return Result({}, picture)
        a, b = (self._features(predict, v) for v in (real, made))
        spread = prdc(a, b, _NEAREST)
        metrics = {
            "fd": float(frechet.frechet(a, b)),
            "kid": float(kid.kernel_distance(a, b).value),
            "precision": spread.precision,
            "recall": spread.recall,
            # Of pixels, 1 where samples differ as much from each other as real images do.
            "diversity": float(_deviation(made) / max(_deviation(real), 1e-6)),
        }
        return Result(metrics, picture)

    def _features(self, predict: Predictor, images: np.ndarray) -> np.ndarray:
        if not self.encoder:
            return np.asarray(random_features(images.astype(np.float32) / 255))
        guide = getattr(getattr(predict.task, "features", None), "encoder", None)
        if self.encoder == guide:
            raise UserError(
                f"config.evaluators.faces.encoder={self.encoder}: it guides the training, and "
                "what is trained on a distance cannot be judged by it; name another tower"
            )
        return image_features.open_features(self.encoder)(images)


def _deviation(images: np.ndarray) -> float:
    return images.astype(np.float32).std(0).mean()
