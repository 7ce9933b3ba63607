"""Evaluators of latent diffusion: its frozen autoencoder, and the error by noise level."""

import dataclasses

from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result
from gen_jax.evaluation.reconstruction import Reconstruction


@dataclasses.dataclass(frozen=True)
class ErrorByTime(Evaluator):
    """Mean squared error of the UNet's output in even parts of the time range.

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
        """Metrics `mse_t0` (least noise), `mse_t1`, ..."""
        batch = data.read(self.split, self.count)
        wanted = {k: batch[k] for k in predict.task.batch_spec()}
        error = predict.batched("error_by_time", wanted, self.batch_size)["mse"].mean(0)
        return Result({f"mse_t{i}": float(e) for i, e in enumerate(error)})


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
