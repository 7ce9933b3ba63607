"""When a run evaluates, saves and ends: intervals in steps or in epochs, counted in steps."""

import dataclasses
import math
from fractions import Fraction

from gen_jax.common.errors import UserError
from gen_jax.training.schedule import Schedule

# A shorter epoch is not logged at its end: reading the metrics so often would slow the steps down.
_LEAST_LOGGED = 10


@dataclasses.dataclass(frozen=True)
class Cadence:
    """The steps at which a run evaluates, saves and ends.

    An epoch need not be a whole number of steps. What happens every n epochs happens at the step
    that takes the last record of each n-th epoch, so that the intervals never drift.

    Attributes:
      num_steps: Number of steps of the whole run.
      steps_per_epoch: Number of training records over the batch size; None if it is unknown.
      log_every: Steps between lines of metrics.
      eval_every: Steps between evaluations, 0 for one at the end.
      checkpoint_every: Steps between checkpoints, 0 for one at each evaluation.
      keep_every: Steps between checkpoints that are never deleted, 0 for none.
    """

    num_steps: int
    steps_per_epoch: Fraction | None
    log_every: int
    eval_every: Fraction
    checkpoint_every: Fraction
    keep_every: Fraction

    @classmethod
    def of(cls, schedule: Schedule, num_records: int) -> "Cadence":
        """Resolves the epochs of a schedule to steps.

        Args:
          schedule: Steps, batch size and intervals. An interval in epochs takes precedence over
            the same interval in steps.
          num_records: Number of training records, 0 if it is unknown.

        Raises:
          UserError: An interval in epochs is shorter than a step, or the number of training
            records is unknown.
        """
        per_epoch = Fraction(num_records, schedule.batch_size) if num_records else None

        def steps(key: str, in_steps: int) -> Fraction:
            epochs = getattr(schedule, f"{key}_epochs")
            if not epochs:
                return Fraction(in_steps)
            return _in_steps(f"{key}_epochs", epochs, schedule.batch_size, num_records)

        return cls(
            num_steps=math.ceil(steps("num", schedule.num_steps)),
            steps_per_epoch=per_epoch,
            log_every=schedule.log_every,
            eval_every=steps("eval_every", schedule.eval_every),
            checkpoint_every=steps("checkpoint_every", schedule.checkpoint_every),
            keep_every=steps("keep_every", 0),
        )

    def epoch(self, step: int) -> float | None:
        """Returns how often the training records were read after a step; None if unknown."""
        return None if self.steps_per_epoch is None else in_epochs(step, self.steps_per_epoch)

    def is_log(self, step: int) -> bool:
        """Returns whether a line of metrics is written after a step."""
        if step % self.log_every == 0 or step == self.num_steps:
            return True
        per_epoch = self.steps_per_epoch or 0
        return per_epoch >= _LEAST_LOGGED and _ends(step, per_epoch)

    def is_evaluation(self, step: int) -> bool:
        """Returns whether the model is evaluated after a step."""
        return step == self.num_steps or _ends(step, self.eval_every)

    def is_checkpoint(self, step: int) -> bool:
        """Returns whether the state is saved after a step."""
        saves = _ends(step, self.checkpoint_every) or self.is_kept(step)
        return saves or self.is_evaluation(step)

    def is_kept(self, step: int) -> bool:
        """Returns whether the checkpoint of a step is never deleted."""
        return _ends(step, self.keep_every)


def in_epochs(step: int, steps_per_epoch: Fraction) -> float:
    """Returns a step as a number of epochs, to four decimals."""
    return round(float(step / steps_per_epoch), 4)


def epoch_of(step: int, steps_per_epoch: Fraction) -> int:
    """Returns the epoch, counted from 1, in which a step begins."""
    return 1 + int((step - 1) // steps_per_epoch)


def _ends(step: int, interval: Fraction | int) -> bool:
    """Returns whether an interval, counted from the beginning of the run, ends within a step."""
    return bool(interval) and step // interval > (step - 1) // interval


def _in_steps(key: str, epochs: float, batch_size: int, num_records: int) -> Fraction:
    # 0.1 as a tenth instead of the nearest binary fraction, so that ten of them are an epoch.
    per_epoch = Fraction(num_records, batch_size)
    steps = Fraction(epochs).limit_denominator(10**6) * per_epoch
    if not num_records:
        raise UserError(f"config.training.{key}={epochs}: the number of training records is 0")
    if per_epoch < 1 or steps < 1:
        shorter = "an epoch" if per_epoch < 1 else "the interval"
        raise UserError(
            f"config.training.{key}={epochs}: {shorter} is less than one step, because an epoch of "
            f"{num_records} training records has {float(per_epoch):.4g} steps of "
            f"batch_size={batch_size}; lower batch_size or give the interval in steps"
        )
    return steps
