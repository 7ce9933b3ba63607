"""How well the frozen autoencoder of a latent model gives this run's images back."""

import dataclasses

from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result
from gen_jax.evaluation.reconstruction import Reconstruction


@dataclasses.dataclass(frozen=True)
class FirstStage(Evaluator):
    """`Reconstruction` of the autoencoder that the task works behind.

    Attributes:
      split: the split to read.
      count: images at most.
      batch_size: images at once.
    """

    split: str = "val"
    count: int = 256
    batch_size: int = 64

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics as of `Reconstruction`; no picture."""
        evaluator = Reconstruction(self.split, self.count, self.batch_size)
        return Result(evaluator(predict, data).metrics)
