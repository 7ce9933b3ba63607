"""Shards: ArrayRecord files written whole or not at all, and read by position.

A shard is written under a temporary name and renamed when it is complete and on
the disk, so a file with a shard's name is a finished shard. One record is one
chunk, uncompressed: images are compressed already, and random reads cost
microseconds.
"""

import bisect
import itertools
import os
import pathlib
import resource
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from array_record.python import array_record_module

from gen_jax.common import checksum, files
from gen_jax.common.errors import UserError

OPTIONS = "group_size:1,uncompressed"


class ShardError(ValueError):
    """A record of a shard cannot be read; the message names shard and record."""


class Written(NamedTuple):
    """A finished shard: number of records, size in bytes, hex SHA-256 of the file."""

    records: int
    bytes: int
    sha256: str


def allow_open_files(count: int) -> None:
    """Raises this process's limit on open files where `count` more might exceed it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def shard_name(split: str, index: int, count: int) -> str:
    """`train-00000-of-00004.arrayrecord`."""
    return f"{split}-{index:05d}-of-{count:05d}.arrayrecord"


def write_shard(
    path: pathlib.Path, records: Iterable[bytes], temporary: pathlib.Path | None = None
) -> Written:
    """Writes one shard atomically.

    Args:
      path: its final name; appears only when everything is written.
      records: the payloads, in order.
      temporary: where it grows, on the same file system; beside `path` by default.

    Raises:
      UserError: the disk is full or the folder cannot be written to. The temporary
        file is gone then, and an older shard of this name untouched.
    """
    count = 0
    try:
        with files.replacing(path, temporary) as growing:
            writer = array_record_module.ArrayRecordWriter(str(growing), OPTIONS)
            try:
                for record in records:
                    writer.write(record)
                    count += 1
            finally:
                # On failure as well: the file is open, and close() is where late errors show.
                writer.close()
            return Written(count, growing.stat().st_size, checksum.of_file(growing))
    except (RuntimeError, OSError) as error:
        # The writer reports the operating system's errors as RuntimeError with its words.
        reason = str(error).split(";")[0]
        raise UserError(
            f"{path}: cannot write this shard ({reason}); free some space or choose another folder"
        ) from error


class ShardedRecords:
    """Random access to the records of several shards as one sequence of bytes.

    Safe to use from many threads. Files are opened when first read from.
    """

    def __init__(self, paths: Sequence[str | os.PathLike], counts: Sequence[int]):
        """Describes the sequence.

        Args:
          paths: the shards, in order.
          counts: records in each, as the data set's description says.
        """
        self._paths = [pathlib.Path(p) for p in paths]
        self._counts = list(counts)
        self._ends = list(itertools.accumulate(self._counts))
        self._readers: list = [None] * len(self._paths)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getstate__(self):
        return {"paths": self._paths, "counts": self._counts}

    def __setstate__(self, state):
        self.__init__(state["paths"], state["counts"])

    def locate(self, index: int) -> tuple[pathlib.Path, int]:
        """The shard that holds a record, and its place in there."""
        shard, place = self._find(index)
        return self._paths[shard], place

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        shard = bisect.bisect_right(self._ends, index)
        return shard, index - (self._ends[shard] - self._counts[shard])

    def _reader(self, shard: int):
        reader = self._readers[shard]
        if reader is None:
            with self._lock:
                reader = self._readers[shard]
                if reader is None:
                    path = self._paths[shard]
                    if not path.exists():
                        raise UserError(
                            f"{path}: this shard is missing; restore it from a copy or run "
                            "prepare again"
                        )
                    try:
                        reader = array_record_module.ArrayRecordReader(str(path))
                        held = reader.num_records()
                    except RuntimeError as error:
                        raise UserError(
                            f"{path}: cannot be opened ({str(error).split(';')[0]}); "
                            "restore it from a copy or run prepare again"
                        ) from error
                    # A truncated ArrayRecord opens without complaint and holds nothing.
                    if held != self._counts[shard]:
                        raise UserError(
                            f"{path}: holds {held} records where {self._counts[shard]} were "
                            "written; it is damaged: restore it from a copy or run prepare again"
                        )
                    self._readers[shard] = reader
        return reader

    def open_all(self) -> None:
        """Opens every shard now.

        Raises:
          UserError: one is missing or truncated; the message names it.
        """
        allow_open_files(len(self._paths))
        for shard in range(len(self._paths)):
            self._reader(shard)

    def __getitem__(self, index: int) -> bytes:
        """The bytes of one record.

        Raises:
          ShardError: they are damaged; the message names shard and record.
        """
        shard, place = self._find(int(index))
        try:
            return self._reader(shard).read([place])[0]
        except RuntimeError as error:
            name = self._paths[shard].name
            raise ShardError(f"{name} record {place}: {str(error).split(';')[0]}") from error

    def close(self) -> None:
        """Closes all files."""
        with self._lock:
            for shard, reader in enumerate(self._readers):
                if reader is not None:
                    reader.close()
                    self._readers[shard] = None
