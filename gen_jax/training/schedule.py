"""`config.training`: steps, batch and cadence."""

import dataclasses

import jax
from jax.sharding import Mesh

from gen_jax.common import ranges
from gen_jax.common.errors import UserError
from gen_jax.common.numbers import check_seed

_RANGES = {
    "num_steps": ranges.AT_LEAST_1,
    "batch_size": ranges.AT_LEAST_1,
    "accumulation_steps": ranges.AT_LEAST_1,
    "ema": ranges.BELOW_1,
    "log_every": ranges.AT_LEAST_1,
    "eval_every": ranges.NOT_NEGATIVE,
    "checkpoint_every": ranges.NOT_NEGATIVE,
    "num_epochs": ranges.NOT_NEGATIVE,
    "eval_every_epochs": ranges.NOT_NEGATIVE,
    "checkpoint_every_epochs": ranges.NOT_NEGATIVE,
    "keep_every_epochs": ranges.NOT_NEGATIVE,
    "patience": ranges.NOT_NEGATIVE,
    "keep": ranges.AT_LEAST_1,
    "max_nonfinite": ranges.AT_LEAST_1,
    "profile_steps": ranges.NOT_NEGATIVE,
}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What `config.training` may hold.

    `training.cadence.Cadence` resolves the keys in epochs to steps. Each takes precedence over the
    same key in steps; 0 leaves the one in steps.

    Attributes:
      num_steps: Steps in all.
      batch_size: Images per step, over all devices.
      seed: Seed of the parameters, the order of the data and every random stream.
      accumulation_steps: Micro-batches that a batch is split into.
      ema: Decay of the parameters' moving average, 0 for none.
      ema_groups: The groups that keep one.
      log_every: Steps between lines of metrics.
      eval_every: Steps between evaluations, 0 for one at the end.
      checkpoint_every: Steps between checkpoints, 0 for one at each evaluation.
      num_epochs: Epochs in all, in place of `num_steps`.
      eval_every_epochs: Epochs between evaluations, in place of `eval_every`.
      checkpoint_every_epochs: Epochs between checkpoints, in place of `checkpoint_every`.
      keep_every_epochs: Epochs between checkpoints that are never deleted, 0 for none.
      keep: Number of newest checkpoints to keep.
      best_metric: Evaluation metric whose best checkpoint is kept as well.
      best_mode: "min" or "max".
      patience: Number of evaluations in a row without a better `best_metric` after which the run
        ends, 0 for no early stopping.
      max_nonfinite: Skipped steps in a row that stop the run.
      profile_steps: Steps to trace for the profiler, from the tenth on if the run has so many;
        0 for none.
    """

    num_steps: int
    batch_size: int
    seed: int = 0
    accumulation_steps: int = 1
    ema: float = 0.999
    ema_groups: tuple[str, ...] = ("model",)
    log_every: int = 50
    eval_every: int = 0
    checkpoint_every: int = 0
    num_epochs: float = 0.0
    eval_every_epochs: float = 0.0
    checkpoint_every_epochs: float = 0.0
    keep_every_epochs: float = 0.0
    keep: int = 2
    best_metric: str = ""
    best_mode: str = "min"
    patience: int = 0
    max_nonfinite: int = 20
    profile_steps: int = 0

    def check_numbers(self) -> None:
        """Raises UserError if a value is out of its range."""
        ranges.check_fields(self, _RANGES, "config.training")
        check_seed(self.seed, "config.training.seed")
        if self.best_mode not in ("min", "max"):
            raise UserError(f"config.training.best_mode={self.best_mode!r}: expected min or max")
        if self.patience and not self.best_metric:
            raise UserError(
                f"config.training.patience={self.patience} needs config.training.best_metric, the "
                "metric that has to become better"
            )
        if self.patience and not (self.eval_every or self.eval_every_epochs):
            raise UserError(
                f"config.training.patience={self.patience} counts evaluations, of which there is "
                "only the last one; set config.training.eval_every or eval_every_epochs"
            )

    def check(self, mesh: Mesh) -> None:
        """Raises UserError if the numbers do not fit each other or the mesh."""
        self.check_numbers()
        data = mesh.shape["replica"] * mesh.shape["fsdp"]
        micro_batch = self.batch_size // self.accumulation_steps
        if self.batch_size % self.accumulation_steps or micro_batch % data:
            raise UserError(
                f"config.training.batch_size={self.batch_size} must be a multiple of "
                f"accumulation_steps x data devices = {self.accumulation_steps} x {data}"
            )
        if self.batch_size % jax.process_count():
            raise UserError(
                f"config.training.batch_size={self.batch_size} must be a multiple of "
                f"the {jax.process_count()} processes"
            )
