"""`dataset.json`: what a folder of shards is, and whether it still is that."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from gen_jax.common import checksum, files, strict_json
from gen_jax.common.errors import UserError
from gen_jax.data import schema, shards

FILE = "dataset.json"

# How much is examined when a data set is opened.
VERIFY = ("size", "digest", "none")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard.

    Attributes:
      file: its name.
      records: how many it holds.
      bytes: size of the file.
      sha256: hex digest of the file.
      sums: exact integer sums over its images, from which statistics are merged.
    """

    file: str
    records: int
    bytes: int
    sha256: str
    sums: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """All that is known of a prepared data set.

    Attributes:
      name: short name of the source.
      source: as it was given to prepare.
      arguments: all that influenced the bytes.
      fingerprint: digest of source and arguments: equal means the same data set.
      splits: shards of each split, in order.
      label_names: names of the classes by index.
      statistics: per split: "records", "channel_mean" and "channel_std" (RGB, in
        [0, 1]), "height" and "width" as [least, mean, most], "captioned".
      quality: counts and lists of what was rejected and why.
      schema_version: of the records.
    """

    name: str
    source: str
    arguments: dict[str, Any]
    fingerprint: str
    splits: dict[str, tuple[Shard, ...]]
    label_names: tuple[str, ...] = ()
    statistics: dict[str, Any] = dataclasses.field(default_factory=dict)
    quality: dict[str, Any] = dataclasses.field(default_factory=dict)
    schema_version: int = schema.SCHEMA_VERSION

    def num_records(self, split: str) -> int:
        return sum(shard.records for shard in self.splits[split])

    def digests(self) -> dict[str, str]:
        """Shard name -> SHA-256, for a run's manifest."""
        return {s.file: s.sha256 for shards_ in self.splits.values() for s in shards_}

    def to_json(self) -> str:
        values = dataclasses.asdict(self)
        values["splits"] = {
            name: {
                "records": self.num_records(name),
                "shards": [dataclasses.asdict(shard) for shard in items],
            }
            for name, items in self.splits.items()
        }
        return strict_json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def write(folder: pathlib.Path, info: DatasetInfo) -> None:
    """Writes dataset.json atomically: it is the last thing that makes a data set."""
    files.write_text(folder / FILE, info.to_json())


def load(data_dir: str | os.PathLike) -> DatasetInfo:
    """Reads the description of a prepared data set; touches no shard.

    Raises:
      UserError: the folder holds none, or one of another schema version.
    """
    path = pathlib.Path(data_dir) / FILE
    try:
        values = json.loads(files.read_text(path))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{data_dir}: no {FILE} here; prepare the data first: "
            f"python -m gen_jax.prepare --source=... --out={data_dir}"
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run prepare again") from None
    found = values.get("schema_version") if isinstance(values, dict) else None
    if found != schema.SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema version {found}, this code reads {schema.SCHEMA_VERSION}; "
            "prepare the data again into a new folder"
        )
    try:
        values["splits"] = {
            name: tuple(Shard(**shard) for shard in split["shards"])
            for name, split in values["splits"].items()
        }
        values["label_names"] = tuple(values["label_names"])
        return DatasetInfo(**values)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not a data set's description ({error}); run prepare again"
        ) from None


def check_shard(path: pathlib.Path, shard: Shard, verify: str) -> None:
    """Compares a shard's file with its description.

    Args:
      path: the file.
      shard: what it should be.
      verify: "size" looks at the size, "digest" reads the whole file, "none" nothing.

    Raises:
      UserError: it differs; the message names it.
    """
    if verify not in VERIFY:
        raise UserError(f"verify={verify!r}: expected one of {', '.join(VERIFY)}")
    if verify == "none":
        return
    mend = "restore it from a copy or run prepare again"
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: this shard is missing; {mend}") from None
    if size != shard.bytes:
        state = "truncated" if size < shard.bytes else "altered"
        raise UserError(f"{path}: {state}, {size} bytes where {shard.bytes} were written; {mend}")
    if verify == "digest" and checksum.of_file(path) != shard.sha256:
        raise UserError(f"{path}: its SHA-256 is not the one in {FILE}, it was altered; {mend}")


def records_of(data_dir: str | os.PathLike, info: DatasetInfo, split: str) -> shards.ShardedRecords:
    """Random access to the records' bytes of one split, unchecked until first read from."""
    folder, items = pathlib.Path(data_dir), info.splits[split]
    return shards.ShardedRecords([folder / s.file for s in items], [s.records for s in items])


def open_split(
    data_dir: str | os.PathLike, split: str, verify: str = "size"
) -> tuple[DatasetInfo, shards.ShardedRecords]:
    """Opens one split for random access to its records' bytes.

    Args:
      data_dir: a folder that prepare wrote.
      split: "train", "val", ...
      verify: "size" (quick), "digest" (reads every byte) or "none" (shards on a
        slow file system are then examined when first read from).

    Raises:
      UserError: no such split, or a shard is missing, truncated or altered.
    """
    info = load(data_dir)
    folder = pathlib.Path(data_dir)
    if split not in info.splits:
        raise UserError(f"{folder}: no split {split!r}; it has {', '.join(info.splits) or 'none'}")
    for shard in info.splits[split]:
        check_shard(folder / shard.file, shard, verify)
    records = records_of(folder, info, split)
    if verify != "none":
        records.open_all()
    return info, records
