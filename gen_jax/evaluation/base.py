"""What an evaluator is: predict functions + data -> named numbers and pictures."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh

from gen_jax.common import batching
from gen_jax.common.errors import NoSplit, UserError
from gen_jax.evaluation.meanings import Meaning
from gen_jax.parallel import distributed, sharding


@dataclasses.dataclass(frozen=True)
class Result:
    """What an evaluator found.

    Attributes:
      metrics: name -> number.
      pictures: name -> uint8 `[h, w, 3]`.
      notes: name of a metric -> what to bear in mind with it.
      warnings: what a reader of the report must know before any number.
      prompts: name of a picture -> the prompt of each sample in it, row by row.
      meanings: name of a metric -> its meaning; `run_all` adds them.
    """

    metrics: Mapping[str, float]
    pictures: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    prompts: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    meanings: Mapping[str, Meaning] = dataclasses.field(default_factory=dict)

    def joined(self, other: "Result") -> "Result":
        """Returns the results of two groups of evaluators as one, each warning once."""
        fields = {}
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            is_map = isinstance(mine, Mapping)
            fields[field.name] = (
                {**mine, **theirs} if is_map else tuple(dict.fromkeys((*mine, *theirs)))
            )
        return Result(**fields)


class Predictor:
    """Runs a task's predict functions on whole batches of NumPy arrays, over all devices.

    Every process passes the same batch and gets the same result.

    Args:
      task: a `tasks.base.Task`.
      variables: `{"params", "extra"}`.
      frozen: parameters that are read and never trained.
      mesh: the devices; all of them by default.
      seed: of the streams that predict functions draw from.
      check: called before each batch; what it raises ends the evaluation.
      show: called with `title`, the batches done and all batches of a loop, with 0 done at first.

    Attributes:
      title: What is done with the predictions, such as "evaluating reconstruction".
      not_finite: Number of images so far that were not finite (NaN or Inf).
    """

    def __init__(
        self,
        task,
        variables,
        frozen,
        mesh: Mesh,
        seed: int = 0,
        check: Callable[[], None] = lambda: None,
        show: Callable[[str, int, int], None] = lambda title, done, total: None,
    ):
        self.task, self.variables, self.frozen = task, variables, frozen
        self.mesh, self._check, self._show = mesh, check, show
        self.title = "evaluating"
        self._root = jax.random.key(seed)
        self.not_finite = 0
        self._compiled: dict[str, Callable[..., Any]] = {}
        self._sharding = sharding.batch_sharding(mesh)

    @property
    def rows(self) -> int:
        """A batch must be a multiple of this; `__call__` fills up what is missing."""
        return self.mesh.shape["replica"] * self.mesh.shape["fsdp"]

    def __call__(self, name: str, batch: Mapping[str, np.ndarray], call: int = 0):
        """Runs one predict function.

        Args:
          name: of the predict function.
          batch: arrays `[b, ...]`, the same on every process.
          call: number of this call, so that its random streams are its own.

        Returns:
          Key -> NumPy array `[b, ...]`.
        """
        self._check()
        count = batching.count_rows(batch)
        padded = {k: batching.pad_rows(v, count + -count % self.rows) for k, v in batch.items()}
        arrays = {
            k: jax.make_array_from_callback(v.shape, self._sharding, lambda i, v=v: v[i])
            for k, v in padded.items()
        }
        if name not in self._compiled:
            known = self.task.predict_fns()
            if name not in known:
                raise UserError(
                    f"config.evaluators: one of them needs the predict function {name!r}, but "
                    f"{type(self.task).__name__} has {', '.join(known)}"
                )
            self._compiled[name] = jax.jit(self.task.predict_fns()[name])
        out = self._compiled[name](self.variables, arrays, self._rngs(call), self.frozen)
        rows = {k: v[:count] for k, v in distributed.to_host(dict(out)).items()}
        self.not_finite += int(np.sum(~rows.get("finite", np.ones(0, bool))))
        return rows

    def _rngs(self, call: int) -> dict[str, jax.Array]:
        """Returns the task's random streams for a call, the same ones each time."""
        key = jax.random.fold_in(self._root, call)
        return {n: jax.random.fold_in(key, i) for i, n in enumerate(self.task.rng_streams)}

    def mean_loss(
        self, group: str, batch: Mapping[str, np.ndarray], batch_size: int
    ) -> dict[str, float]:
        """Returns a loss of the task and its metrics, means over all rows.

        A loss is one number for all rows of a batch, so that none may be padding. The last batch
        may be smaller than the others, and a batch that the devices do not divide is computed as a
        whole on each of them: the result does not depend on their number.

        Args:
          group: Parameter group of the loss.
          batch: Arrays [n, ...] of the keys that the task reads, the same on every process.
          batch_size: Rows per batch.

        Returns:
          "loss" and the loss's own metrics, by name.
        """
        frozen = self._frozen_of_losses()
        loss_fn = jax.jit(self._loss_of(group))
        total, sums = batching.count_rows(batch), collections.Counter()
        starts = range(0, total, batch_size)
        self._show(self.title, 0, len(starts))
        for call, start in enumerate(starts):
            self._check()
            rows = {k: v[start : start + batch_size] for k, v in batch.items()}
            count = batching.count_rows(rows)
            where = self._sharding if not count % self.rows else sharding.replicated(self.mesh)
            arrays = {
                k: jax.make_array_from_callback(v.shape, where, lambda i, v=v: v[i])
                for k, v in rows.items()
            }
            values = loss_fn(self.variables, arrays, self._rngs(call), frozen)
            for name, value in distributed.to_host(values).items():
                sums[name] += count * float(value)
            self._show(self.title, call + 1, len(starts))
        return {name: value / total for name, value in sums.items()}

    def _loss_of(self, group: str) -> Callable[..., dict[str, jax.Array]]:
        loss_fn = self.task.losses()[group]

        def values(variables, batch, rngs, frozen):
            params = variables["params"]
            loss, (metrics, _) = loss_fn(
                params[group], params, variables["extra"], batch, rngs, frozen
            )
            return {"loss": loss, **metrics}

        return values

    def _frozen_of_losses(self) -> dict[str, Any]:
        """Returns `frozen` with the encoders that losses read, which a finished run is without."""
        from gen_jax import encoders

        frozen = dict(self.frozen)
        for name, spec in self.task.frozen_encoders().items():
            if name not in frozen:
                frozen[name] = encoders.load(*encoders.parse(spec))[1]
        return frozen

    def batched(self, name: str, batch: Mapping[str, np.ndarray], batch_size: int):
        """`__call__` over parts of at most `batch_size` rows, joined again."""
        total = -(-batching.count_rows(batch) // batch_size)
        parts = []
        self._show(self.title, 0, total)
        for padded, count in batching.split(batch, batch_size):
            out = self(name, padded, call=len(parts))
            parts.append({k: v[:count] for k, v in out.items()})
            self._show(self.title, len(parts), total)
        return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


@runtime_checkable
class Data(Protocol):
    """What evaluators may read of a run's data.

    Attributes:
      label_names: name of each class.
      captions: class -> its captions; empty where there are no classes.
      source: name of what the data was prepared from.
      folder: its shards.
    """

    label_names: tuple[str, ...]
    captions: Mapping[int, tuple[str, ...]]
    source: str
    folder: pathlib.Path

    def read(self, split: str, count: int) -> Mapping[str, np.ndarray]:
        """At most `count` decoded, unaugmented examples of a split, the same each time."""

    def records(self, split: str, indices: np.ndarray) -> list[Any]:
        """Whole records by the `index` that `read` gave."""

    def tokenize(self, texts: list[str]) -> Mapping[str, np.ndarray]:
        """Tokens and their mask, `[n, max_length]` each."""

    def detokenize(self, tokens: np.ndarray) -> list[str]:
        """Returns the texts of tokens [n, length]."""


@runtime_checkable
class SplitData(Protocol):
    """Data as they can be looked at before any example is read.

    Attributes:
      folder: Folder of the shards.
      splits: Names of the splits there are.
      label_names: Name of each class; empty if there are no classes.
      source: Name of what the data was prepared from.
    """

    folder: pathlib.Path
    splits: tuple[str, ...]
    label_names: tuple[str, ...]
    source: str

    def num_records(self, split: str) -> int:
        """Returns how many images a split has, 0 if there is no such split."""

    def num_without_caption(self, split: str) -> int:
        """Returns how many images of a split have no caption."""

    def check_split(self, split: str) -> None:
        """Raises UserError if a shard of the split is missing or damaged."""


@dataclasses.dataclass(frozen=True)
class Reads:
    """What an evaluator reads of one split.

    Attributes:
      split: Name of the split.
      count: Number of images read at most.
      least: Number of images below which it has nothing to measure.
      is_optional: Whether training images take the place of a split that is not there.
    """

    split: str
    count: int
    least: int = 1
    is_optional: bool = False


class Evaluator:
    """Base of evaluators, which are frozen dataclasses of plain values.

    Calling one measures what was trained. The other methods tell beforehand what the call needs,
    so that a run stops before hours of training and not after.
    """

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Measures the model behind `predict`."""
        raise NotImplementedError

    def reads(self) -> tuple[Reads, ...]:
        """Returns the splits that the call reads, none by default."""
        return ()

    def encoders(self) -> tuple[str, ...]:
        """Returns the frozen encoders that the call loads, each as "NAME[:WEIGHTS]" or ""."""
        return ()

    def check(self, data: SplitData) -> None:
        """Raises UserError if the call could not work on this data."""


def generated(
    predict: Predictor, data: Data, split: str, batch: Mapping[str, np.ndarray], batch_size: int
) -> tuple[np.ndarray, list[str]]:
    """Generates an image for each example of a split.

    Args:
      predict: Of a task with "generate".
      data: Data of the run.
      split: Name of the split.
      batch: Examples as `data.read` gave them.
      batch_size: Images at once.

    Returns:
      Images uint8 [n, h, w, 3], and what each was made from: the first caption of its example, or
      its seed if the task is unconditional.
    """
    if predict.task.text_encoder is None:
        seeds = np.arange(len(batch["index"]), dtype=np.uint32)
        names, inputs = [f"seed {seed}" for seed in seeds], {"seed": seeds}
    else:
        records = data.records(split, batch["index"])
        names = [(record.captions or ("",))[0] for record in records]
        inputs = data.tokenize(names)
    return predict.batched("generate", inputs, batch_size)["image"], names


def held_out(
    data: Data, split: str, count: int
) -> tuple[Mapping[str, np.ndarray], tuple[str, ...]]:
    """`data.read` of a held-out split; training images where there is none, with a warning."""
    try:
        return data.read(split, count), ()
    except NoSplit:
        warning = (
            f"there is no split {split!r} (too few images, perhaps): what is said of held-out "
            "images is of training images"
        )
        return data.read("train", count), (warning,)
