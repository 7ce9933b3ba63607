"""Are samples of seeds copies of training images?"""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.evaluation.base import Data, Predictor, Result
from gen_jax.evaluation.judge import features_by
from gen_jax.metrics.memorisation import memorisation


@dataclasses.dataclass(frozen=True)
class MemorisationAudit:
    """Samples of seeds 0, 1, ... beside their nearest training images.

    Attributes:
      count: samples.
      train: training images at most that a copy is looked for among.
      split: of the held-out images that show how near a new image is.
      batch_size: samples at once.
      encoder: as in `faces.Faces`.
      shown: nearest pairs in the picture.
    """

    count: int = 256
    train: int = 10_000
    split: str = "val"
    batch_size: int = 64
    encoder: str = ""
    shown: int = 16

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `nearest_ratio` and `copies` (see `metrics.memorisation`); picture `nearest`:
        the samples that are nearest to a training image, each with that image to its right.
        """
        seeds = np.arange(self.count, dtype=np.uint32)
        made = predict.batched("generate", {"seed": seeds}, self.batch_size)["image"]
        train = data.read("train", self.train)["image"]
        held_out = data.read(self.split, self.count)["image"]
        if not (len(train) and len(held_out)):
            return Result({})
        rows = [features_by(self.encoder, predict, v) for v in (made, train, held_out)]
        found = memorisation(*rows)
        order = np.argsort(found.distance)[: self.shown]
        pairs = np.stack([made[order], train[found.nearest[order]]], 1)
        picture = pictures.grid(pairs.reshape(-1, *made.shape[1:]), columns=8)
        return Result({"nearest_ratio": found.ratio, "copies": found.copies}, {"nearest": picture})
