"""Batches of a prepared split, in an order that depends on the seed and the step alone.

The batch at global step s holds the examples at positions [s * B, (s + 1) * B) of
an endless sequence (`order.example_order`), and process p of P reads the rows
[p * B / P, (p + 1) * B / P) of it: the processes' batches put one after the other
are the single process's batch, for any P. There is no iterator state to save.
"""

import dataclasses
import gc
import signal
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags, logging

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.data import dataset, schema, workers
from gen_jax.data.load import order, steps
from gen_jax.data.load.augmentation import Transform
from gen_jax.data.load.reading import ExampleReader

Batch = dict[str, np.ndarray]

# A finite or endless run has at most so many steps; Grain wants a length.
_ENDLESS = 1 << 48


def _stack(examples: Sequence[dict[str, Any]], indices: np.ndarray) -> Batch:
    batch: Batch = {}
    for key, first in examples[0].items():
        values = [example[key] for example in examples]
        if isinstance(first, np.ndarray):
            shapes = {value.shape for value in values}
            if len(shapes) > 1:
                raise UserError(
                    f'"{key}" has different shapes in one batch, {sorted(shapes)[0]} and '
                    f"{sorted(shapes)[-1]}: give the loader a transform that resizes or crops"
                )
            batch[key] = np.stack(values)
        elif isinstance(first, str | bool | int | float | np.generic):
            wide = np.int32 if isinstance(first, int) and not isinstance(first, bool) else None
            batch[key] = np.asarray(values, dtype=wide)
        # Lists and dicts (captions, attributes) are no arrays: `Loader.records` has them.
    batch["index"] = indices
    return batch


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Decides which examples are in which batch.

    Attributes:
      batch_size: Examples per step over all processes together.
      seed: Seed of the order and of all augmentation.
      start_step: Global step of the first batch.
      process_index: Part of each batch that this process reads.
      process_count: Number of processes that share a batch.
      shuffle: Whether each epoch has a new order.
      total: Examples of a finite run; None for an endless one.
      is_padded: Whether an incomplete last batch is filled with repeated examples.
    """

    batch_size: int
    seed: int
    start_step: int
    process_index: int
    process_count: int
    shuffle: bool
    total: int | None
    is_padded: bool

    @property
    def num_steps(self) -> int:
        """Global steps of the whole run."""
        if self.total is None:
            return _ENDLESS
        whole = self.total // self.batch_size
        return -(-self.total // self.batch_size) if self.is_padded else whole


class _Failure:
    """An error on its way from a thread: Grain would write remarks into its message."""

    def __init__(self, error: Exception):
        self.error = error


class _Batches:
    """Random access to this process's batches by local step; what Grain prefetches from.

    Each batch comes with the bad records that its reader has met if that is a worker's.
    """

    def __init__(self, reader: ExampleReader, transform: Transform, plan: _Plan, is_worker: bool):
        self._reader, self._transform = reader, transform
        self._plan, self._is_worker = plan, is_worker

    def __len__(self) -> int:
        return max(0, self._plan.num_steps - self._plan.start_step)

    def __getitem__(self, local_step: int) -> tuple[Batch | _Failure, dict[int, tuple[str, str]]]:
        try:
            batch = self._batch(local_step)
        except Exception as error:
            batch = _Failure(error)
        return batch, self._reader.bad_by_index if self._is_worker else {}

    def _batch(self, local_step: int) -> Batch:
        plan, size = self._plan, len(self._reader)
        step = plan.start_step + int(local_step)
        positions = order.rows_of_process(
            step, plan.batch_size, plan.process_index, plan.process_count
        )
        valid = np.ones(len(positions), bool)
        if plan.total is not None:
            valid = positions < plan.total
        positions = np.where(valid, positions, positions % size)
        # In one go: point by point the permutation would cost more than the decoding.
        indices = order.example_order(positions, size, plan.seed, plan.shuffle)
        examples = []
        for row, position in enumerate(positions.tolist()):
            index = int(indices[row])
            indices[row], example = self._reader.read(position, index, plan.seed, plan.shuffle)
            rng = order.augmentation_rng(plan.seed, position)
            examples.append(self._transform({**example, "step": step}, rng))
        batch = _stack(examples, indices)
        if plan.is_padded:
            batch["valid"] = valid
        return batch


def _begin_worker(index: int, count: int) -> None:
    """SIGTERM is the trainer's to answer, which saves first and may want one more batch."""
    workers.follow_parent(signal.SIGTERM)


class Loader:
    """An iterator over batches; `next` blocks until one is there. See `make_loader`."""

    def __init__(
        self,
        info: dataset.DatasetInfo,
        split: str,
        reader: ExampleReader,
        batches: _Batches,
        *,
        start_step: int,
        num_threads: int,
        num_workers: int,
        prefetch: int,
        batch_size: int,
    ):
        """Starts nothing yet: threads start with the first `next`."""
        self.info, self.split, self.batch_size = info, split, batch_size
        self.step = start_step  # of the batch that `next` returns next
        self._reader = reader
        self._workers = num_workers
        self._left = len(batches)
        if num_workers:
            num_threads, prefetch = 1, 2  # in each worker
        options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
        self._grain = grain.MapDataset.source(batches).to_iter_dataset(options)
        if num_workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # Grain reads its own; we may be in a notebook
            self._grain = self._grain.mp_prefetch(
                grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=2),
                worker_init_fn=_begin_worker,
            )
        self._iterator = None

    @property
    def num_records(self) -> int:
        return len(self._reader)

    @property
    def bad_records(self) -> list[str]:
        """Keys or places of the bad records met so far."""
        return self._reader.bad_records

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        if self._left <= 0:
            raise StopIteration
        if self._iterator is None:
            self._iterator = iter(self._grain)
        try:
            batch, bad = next(self._iterator)
        except RuntimeError as error:
            if "Worker process was terminated" not in str(error):
                raise
            raise UserError(
                "a worker process that reads data died, most likely for want of memory, or of "
                "/dev/shm in a container; run it again with fewer data.num_workers, or without "
                "data.cache"
            ) from error
        if isinstance(batch, _Failure):
            raise batch.error
        self._reader.learn_bad(bad)
        if self._workers:
            # Out of the shared memory they came in, which would otherwise outlive an error.
            batch = {key: np.array(value, subok=False) for key, value in batch.items()}
        self._left -= 1
        self.step += 1
        return batch

    def records(self, indices: Sequence[int] | np.ndarray) -> list[schema.Record]:
        """Whole records by the "index" of a batch: captions, attributes, keys."""
        return [self._reader.record(int(i)) for i in indices]

    def keys(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """Keys of records by the "index" of a batch."""
        return [record.key for record in self.records(indices)]

    def close(self) -> None:
        """Stops the threads and closes the shards; the loader is spent then."""
        self._left = 0
        if self._iterator is not None and hasattr(self._iterator, "close"):
            self._iterator.close()
        self._iterator = None
        if self._workers:
            gc.collect()  # batches read ahead; Grain's iterators hold each other in cycles
        self._reader.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def make_loader(
    data_dir,
    split: str,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    transform: Transform | None = None,
    shuffle: bool = True,
    num_epochs: int | None = None,
    remainder: str = "drop",
    num_threads: int = 4,
    num_workers: int = 0,
    prefetch: int = 8,
    max_bad_records: int = 16,
    verify: str = "size",
    cache: bool = False,
    decode: Callable[[bytes], dict[str, Any]] = steps.decode,
) -> Loader:
    """Opens a split for training or evaluation.

    Args:
      data_dir: a folder that prepare wrote.
      split: "train", "val", ...
      batch_size: examples a step over all processes together.
      seed: of the order and of all augmentation.
      start_step: global step of the first batch.
      process_index: which part of each batch this process reads.
      process_count: how many processes share a batch.
      transform: from an example to arrays, see `transforms`; by default the image
        as it is stored, and the label.
      shuffle: a new order every epoch; otherwise the order of the shards.
      num_epochs: stop after so many passes over the data; None never stops.
      remainder: with num_epochs, "drop" leaves out an incomplete last batch, "pad"
        fills it with repeated examples; every batch then has "valid" (bool [b]).
      num_threads: that read and decode. Four are enough and more are slower.
      num_workers: processes of one thread each that do it instead, for transforms that compute in
        Python, of which threads do one at a time. The batches are the same.
      prefetch: batches that are made ahead.
      max_bad_records: damaged records of this process to put up with. Each is
        replaced by the next one in the order, the same on every machine.
      verify: "size", "digest" (reads all shards) or "none".
      cache: keep decoded images in memory, for small data sets; each worker keeps its own.
      decode: from a record's bytes to an example.

    Returns:
      an iterator over dicts of arrays [b, ...] with b = batch_size / process_count;
      "index" (int64) holds the indices of the records.

    Raises:
      UserError: wrong sizes, or the shards are not what dataset.json says.
    """
    for name, value, low in (
        ("batch_size", batch_size, 1),
        ("start_step", start_step, 0),
        ("process_count", process_count, 1),
        ("num_threads", num_threads, 1),
        ("num_workers", num_workers, 0),
        ("prefetch", prefetch, 1),
    ):
        numbers.parse(value, name, int, low)
    _check_share(batch_size, process_index, process_count)
    if remainder not in ("drop", "pad"):
        raise UserError(f"remainder={remainder!r}: expected drop or pad")
    info, records = dataset.open_split(data_dir, split, verify)
    total = None if num_epochs is None else len(records) * num_epochs
    is_padded = remainder == "pad" and total is not None
    if total is not None and total < batch_size and not is_padded:
        raise UserError(
            f"batch_size={batch_size} is larger than {num_epochs} epochs of {data_dir} "
            f"{split} with {len(records)} records; lower it, or use remainder='pad'"
        )
    plan = _Plan(
        batch_size, seed, start_step, process_index, process_count, shuffle, total, is_padded
    )
    reader = ExampleReader(
        records,
        decode,
        max_bad=max_bad_records,
        cache_bytes=_cache_bytes(info, split) * max(1, num_workers) if cache else 0,
    )
    transform = transform or steps.select("image", "label")
    batches = _Batches(reader, transform, plan, is_worker=num_workers > 0)
    logging.info("%s %s: %d records", data_dir, split, len(records))
    return Loader(
        info,
        split,
        reader,
        batches,
        start_step=start_step,
        num_threads=num_threads,
        num_workers=num_workers,
        prefetch=max(prefetch, num_threads),
        batch_size=batch_size,
    )


def _check_share(batch_size: int, process_index: int, process_count: int) -> None:
    """Raises UserError if the processes cannot share a batch evenly."""
    if not 0 <= process_index < process_count:
        raise UserError(f"process_index={process_index}: expected 0 to {process_count - 1}")
    if batch_size % process_count:
        raise UserError(
            f"batch_size={batch_size} is not divisible by the {process_count} processes; "
            f"choose a multiple, for example {-(-batch_size // process_count) * process_count}"
        )


def _cache_bytes(info: dataset.DatasetInfo, split: str) -> int:
    """Roughly what the decoded images of a split take."""
    of = info.statistics.get(split)
    if not of:
        return 0
    return int(of["records"] * of["height"]["mean"] * of["width"]["mean"] * 3)
