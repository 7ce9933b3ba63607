"""The loss that a stage is trained by, on held-out images."""

import dataclasses

from gen_jax.common.errors import UserError
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result

_GROUP = "model"  # a discriminator's loss says nothing without the generator's


@dataclasses.dataclass(frozen=True)
class ValidationLoss(Evaluator):
    """Loss of the group "model" and its metrics, means over images of a held-out split.

    The random streams (noise levels, dropout) are the same at each evaluation, so that the values
    of two steps can be compared. A loss that compares the rows of a batch, such as a contrastive
    one, depends on the batch size: use the training's to compare with the training loss.

    Attributes:
      split: Split to read.
      count: Number of images at most.
      batch_size: Number of images per batch.
    """

    split: str = "val"
    count: int = 256
    batch_size: int = 32

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `validation_loss`, and each metric of the loss as `validation_METRIC`.

        Raises:
          UserError: The task reads what examples of the split do not have.
        """
        where = "config.evaluators.validation_loss"
        batch, spec = data.read(self.split, self.count), predict.task.batch_spec()
        if missing := sorted(set(spec) - set(batch)):
            raise UserError(
                f"{where}: the loss reads {missing[0]!r}, which examples of split {self.split!r} "
                f"do not have (they have {', '.join(sorted(batch))}); leave the evaluator out"
            )
        if _GROUP not in predict.task.losses():
            raise UserError(f"{where}: the task has no loss of the group {_GROUP!r}")
        means = predict.mean_loss(_GROUP, {key: batch[key] for key in spec}, self.batch_size)
        return Result({f"validation_{_short(name)}": value for name, value in means.items()})


def _short(name: str) -> str:
    """Returns a metric's name without its group, as one part of the name of a metric."""
    return name.removeprefix(f"{_GROUP}/").replace("/", "_")
