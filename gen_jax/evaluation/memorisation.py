"""Are samples of seeds copies of training images?"""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out
from gen_jax.evaluation.judge import features_by
from gen_jax.metrics.memorisation import memorisation

_CHANCE = 0.01  # of the test below which samples count as nearer


@dataclasses.dataclass(frozen=True)
class MemorisationAudit(Evaluator):
    """Samples of seeds 0, 1, ... beside their nearest training images.

    Attributes:
      count: samples.
      train: training images at most that a copy is looked for among.
      split: of the held-out images that show how near a new image is.
      batch_size: samples at once.
      encoder: as in `faces.Faces`.
      shown: nearest pairs in the picture.
      prompts: of captions of training images, which is where copies would be, not of no text.
    """

    count: int = 256
    train: int = 10_000
    split: str = "val"
    batch_size: int = 64
    encoder: str = ""
    shown: int = 16
    prompts: bool = False

    def reads(self) -> tuple[Reads, ...]:
        return (Reads("train", self.train), Reads(self.split, self.count, is_optional=True))

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `nearest_ratio`, `nearest_chance` and `copies` (see `metrics.memorisation`);
        picture `nearest`: the samples that are nearest to a training image, each with that image
        to its right. Warns where samples lie nearer to training images than held-out ones do.
        """
        known = data.read("train", self.train)
        train, asked = known["image"], {"seed": np.arange(self.count, dtype=np.uint32)}
        batch, warnings = held_out(data, self.split, self.count)
        if not (len(train) and len(batch["image"])):
            return Result({}, warnings=warnings)
        if self.prompts:
            of = asked["seed"] % len(train)
            asked |= {name: known[name][of] for name in ("tokens", "token_mask")}
        elif predict.task.text_encoder is not None:
            asked |= data.tokenize([""] * self.count)
        made = predict.batched("generate", asked, self.batch_size)["image"]
        rows = [features_by(self.encoder, predict, v) for v in (made, train, batch["image"])]
        found = memorisation(*rows)
        order = np.argsort(found.distance)[: self.shown]
        pairs = np.stack([made[order], train[found.nearest[order]]], 1)
        picture = pictures.grid(pairs.reshape(-1, *made.shape[1:]), columns=8)
        metrics = {
            "nearest_ratio": found.ratio,
            "nearest_chance": found.chance,
            "copies": found.copies,
        }
        if found.chance < _CHANCE:
            warnings += (
                f"samples lie nearer to the training images than held-out images do: the median "
                f"distance is {found.ratio:.2f} of theirs, and {found.copies:.0%} are nearer than "
                "all but a hundredth of those; look at the picture 'nearest'",
            )
        return Result(metrics, {"nearest": picture}, warnings=warnings)
