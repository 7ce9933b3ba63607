"""From a position in the order to a decoded example, stepping over bad records."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging

from gen_jax.common.errors import UserError
from gen_jax.data import schema, shards
from gen_jax.data.images import ImageError
from gen_jax.data.load import order

# More than this in memory is no longer "a small data set".
CACHE_LIMIT = 16 << 30


class ExampleReader:
    """Decodes examples of one split; safe to use from many threads."""

    def __init__(
        self,
        records: shards.ShardedRecords,
        decode: Callable[[bytes], dict[str, Any]],
        *,
        max_bad: int,
        cache_bytes: int = 0,
    ):
        """Describes the reader.

        Args:
          records: the bytes.
          decode: from the bytes of a record to an example.
          max_bad: bad records to put up with.
          cache_bytes: what keeping all decoded examples would take; 0 keeps none.

        Raises:
          UserError: that is too much to keep.
        """
        if cache_bytes > CACHE_LIMIT:
            raise UserError(
                f"cache=True would keep {cache_bytes / 2**30:.0f} GiB of decoded images in memory, "
                f"the limit is {CACHE_LIMIT >> 30}; turn it off or prepare with a smaller size"
            )
        self._records, self._decode, self._max_bad = records, decode, max_bad
        self._cache: list[dict[str, Any] | None] | None = (
            [None] * len(records) if cache_bytes else None
        )
        self._bad: dict[int, tuple[str, str]] = {}  # index -> place and key, and what is wrong
        self._too_many: str | None = None  # what to say from then on
        self._lock = threading.Lock()
        self._closed = False
        self._speaks = True

    def __len__(self) -> int:
        return len(self._records)

    def __getstate__(self):
        """For worker processes: each keeps a cache of its own."""
        cache = None if self._cache is None else [None] * len(self)
        return {**self.__dict__, "_lock": None, "_cache": cache}

    def __setstate__(self, state):
        # What a worker meets is sent to its parent (`learn_bad`), which says it, once.
        self.__dict__.update(state, _lock=threading.Lock(), _speaks=False)

    @property
    def bad_by_index(self) -> dict[int, tuple[str, str]]:
        """The bad records met so far: index -> place and key, and what is wrong."""
        with self._lock:
            return dict(self._bad)

    def learn_bad(self, found: Mapping[int, tuple[str, str]]) -> None:
        """Adds bad records that a worker process met.

        Raises:
          UserError: together they are too many.
        """
        for index, (where, error) in found.items():
            self._note_bad(index, where, error)

    @property
    def bad_records(self) -> list[str]:
        """The bad records met so far, in the order of their indices."""
        with self._lock:
            return [self._bad[index][0] for index in sorted(self._bad)]

    def record(self, index: int) -> schema.Record:
        """One whole record."""
        return schema.unpack(self._records[index])

    def close(self) -> None:
        """Closes the shards; threads that still read ahead end without a word."""
        self._closed = True
        self._records.close()

    def _example(self, index: int) -> dict[str, Any]:
        if self._cache is not None and self._cache[index] is not None:
            return self._cache[index]
        example = self._decode(self._records[index])
        if self._cache is not None:
            for value in example.values():
                if isinstance(value, np.ndarray):
                    value.setflags(write=False)
            self._cache[index] = example
        return example

    def _describe(self, index: int, error: Exception) -> tuple[str, str]:
        path, place = self._records.locate(index)
        where = f"{path.name} record {place}"
        what = str(error).removeprefix(f"{where}: ")
        try:
            return f"{where} (key {self.record(index).key})", what
        except ValueError:
            return where, what

    def _note_bad(self, index: int, where: str, error: str) -> None:
        with self._lock:
            if index in self._bad:
                return
            if self._too_many is None:
                self._bad[index] = where, error
                if len(self._bad) > self._max_bad:
                    self._too_many = (
                        f"{self._records.locate(index)[0].parent / where} is bad ({error}), and "
                        f"it is number {len(self._bad)}: more than max_bad_records="
                        f"{self._max_bad}; restore the shards or prepare again"
                    )
            if self._too_many is not None:  # threads that read ahead must not count on
                raise UserError(self._too_many)
        if self._speaks:
            logging.warning("bad record, replaced by the next: %s: %s", where, error)

    def read(
        self, position: int, index: int, seed: int, shuffle: bool
    ) -> tuple[int, dict[str, Any]]:
        """The example at a position, or the next good one of that epoch.

        Args:
          position: in the endless sequence.
          index: the record that the order puts there.
          seed: of the order.
          shuffle: whether the order is shuffled.

        Returns:
          the index of the record, and the example.

        Raises:
          UserError: too many bad records.
        """
        size = len(self)
        first = position - position % size
        for skipped in range(size):
            if skipped:
                at = first + (position + skipped) % size
                index = int(order.example_order(np.array([at], np.int64), size, seed, shuffle)[0])
            if index in self._bad:
                continue
            try:
                return index, self._example(index)
            except (shards.ShardError, schema.RecordError, ImageError) as error:
                if self._closed:
                    raise
                self._note_bad(index, *self._describe(index, error))
        raise UserError(f"{self._records.locate(0)[0].parent}: every record of this split is bad")
