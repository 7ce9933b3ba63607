"""Samples from the captions of held-out images or from seeds, and their distance to the data."""

import dataclasses

from gen_jax.common import pictures, pixels
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, generated
from gen_jax.evaluation.untrained import random_features
from gen_jax.metrics import frechet, kid

# The unbiased kernel distance needs a few rows on each side.
_LEAST_ROWS = 4


@dataclasses.dataclass(frozen=True)
class Samples(Evaluator):
    """For data without classes: generates from the first caption of each held-out image.

    An unconditional model generates from as many seeds.

    Attributes:
      split: the split to read.
      count: images at most.
      batch_size: samples at once.
      shown: samples in the picture.
    """

    split: str = "val"
    count: int = 128
    batch_size: int = 32
    shown: int = 36

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `fd_untrained` and `kid_untrained`, and the picture `samples`."""
        batch = data.read(self.split, self.count)
        out, texts = generated(predict, data, self.split, batch, self.batch_size)
        metrics = {}
        if len(out) >= _LEAST_ROWS:
            real, fake = (random_features(pixels.to_unit(v)) for v in (batch["image"], out))
            metrics["fd_untrained"] = float(frechet.frechet(real, fake))
            metrics["kid_untrained"] = float(kid.kernel_distance(real, fake).value)
        shown = min(self.shown, len(out))
        sheet = pictures.grid(out[:shown], texts[:shown])
        return Result(metrics, {"samples": sheet}, prompts={"samples": texts[:shown]})
