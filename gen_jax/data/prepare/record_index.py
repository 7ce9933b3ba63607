"""`index.jsonl`: one line per record of a data set, to search and count without reading shards."""

import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from gen_jax.common import files, strict_json
from gen_jax.data import dataset, schema

FILE = "index.jsonl"


def row(record: schema.Record) -> dict[str, Any]:
    """Returns what the index has of a record."""
    return {
        "key": record.key,
        "width": record.width,
        "height": record.height,
        "captions": list(record.captions),
        "sha256": record.sha256,
    }


def write_rows(work: pathlib.Path, shard: str, rows: Iterable[dict[str, Any]]) -> None:
    """Writes the rows of one shard beside its side file, for `write`."""
    text = "".join(strict_json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    files.write_text(_rows_file(work, shard), text)


def write(folder: pathlib.Path, work: pathlib.Path, info: dataset.DatasetInfo) -> None:
    """Writes the index of all records, in the order of the shards, atomically.

    Args:
      folder: Folder of the data set.
      work: Folder with the rows of shards that were just written; others are read again.
      info: Description of the data set.
    """
    with files.replacing(folder / FILE) as temporary, open(temporary, "w", encoding="utf-8") as out:
        for split, shards in info.splits.items():
            for shard in shards:
                for values in _rows(folder, work, shard, info, split):
                    line = {"key": values["key"], "split": split, **values, "shard": shard.file}
                    out.write(strict_json.dumps(line, ensure_ascii=False) + "\n")


def _rows(folder, work, shard: dataset.Shard, info, split: str) -> Iterator[dict[str, Any]]:
    side = _rows_file(work, shard.file)
    if side.exists():
        # Split at line feeds alone: a caption may hold other characters that end a line.
        lines = files.read_text(side).split("\n")
        yield from (json.loads(line) for line in lines if line)
        return
    names = [s.file for s in info.splits[split]]
    before = sum(s.records for s in info.splits[split][: names.index(shard.file)])
    records = dataset.records_of(folder, info, split)
    try:
        for number in range(before, before + shard.records):
            yield row(schema.unpack(records[number]))
    finally:
        records.close()


def _rows_file(work: pathlib.Path, shard: str) -> pathlib.Path:
    return work / f"{shard}.rows"
