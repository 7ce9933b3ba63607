"""What is to be made: which records go into which shard, and what decides over their bytes."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from gen_jax.common import files, numbers
from gen_jax.common.errors import UserError
from gen_jax.data import dataset, shards

# Raise it when the same arguments would give other bytes.
VERSION = 1

# Folder in the output for what each task leaves beside its shards.
PARTS = "parts"
_JOB = "job.json"


@dataclasses.dataclass(frozen=True)
class Options:
    """What featurize does.

    Attributes:
      data: folder that prepare wrote.
      encoder: "NAME[:WEIGHTS]", see `encoders.catalog`; "vae:RUN" for an autoencoder.
      out: folder for the features.
      layers: see `encoders.extractors`.
      grids: tokens a side of DINOv2's patch grids.
      store: see `feature_codec.Store`.
      splits: which; all by default.
      batch_size: examples that a device takes at a time.
      dtype: of the computation.
      image_size: side of an autoencoder's images in pixels; 0 for its own.
      captions: of an example that a text tower reads.
      max_length: tokens of a caption, 0 for all that the tower reads.
      shard_records: records in a shard.
      keep_image: whether the images go into the records too.
      max_bad: examples of one task that may fail to decode before it stops; -1 for any number.
      num_threads: that decode and resize.
      task: this task's number, see `parallel.job_array`.
      tasks: how many there are.
    """

    data: str
    encoder: str
    out: str
    layers: str = ""
    grids: tuple[int, ...] = (4, 8, 16, 32)
    store: str = "int8"
    splits: tuple[str, ...] = ()
    batch_size: int = 16
    dtype: str = "float32"
    image_size: int = 0
    captions: int = 1
    max_length: int = 0
    shard_records: int = 512
    keep_image: bool = False
    max_bad: int = 100
    num_threads: int = 4
    task: int | None = None
    tasks: int | None = None


# What has no influence on the bytes of a shard.
_FREE = ("data", "out", "encoder", "max_bad", "num_threads", "task", "tasks", "splits")


@dataclasses.dataclass(frozen=True)
class Part:
    """A shard to be made.

    Attributes:
      name: of its file.
      split: that it belongs to.
      start: first record in the split.
      stop: behind its last one.
    """

    name: str
    split: str
    start: int
    stop: int

    @property
    def records(self) -> int:
        return self.stop - self.start


def check(options: Options) -> None:
    """Raises UserError for a value that makes no sense, naming the option."""
    for name, value, low, high in (
        ("batch_size", options.batch_size, 1, 65536),
        ("image_size", options.image_size, 0, 16384),
        ("captions", options.captions, 1, 1024),
        ("max_length", options.max_length, 0, 65536),
        ("shard_records", options.shard_records, 1, 10**9),
        ("max_bad", options.max_bad, -1, 10**12),
        ("num_threads", options.num_threads, 1, 1024),
    ):
        numbers.parse(value, name, int, low, high)
    if options.dtype not in ("float32", "bfloat16"):
        raise UserError(f"dtype={options.dtype}: expected float32 or bfloat16")
    if not options.grids or len(set(options.grids)) < len(options.grids):
        raise UserError(f"grids={options.grids}: expected different numbers of tokens per side")
    for grid in options.grids:
        if not 1 <= grid <= 256:
            raise UserError(f"grids: {grid} is not a number of tokens per side from 1 to 256")


def splits_of(options: Options, info: dataset.DatasetInfo) -> tuple[str, ...]:
    """The splits to do, in the data set's order.

    Raises:
      UserError: one that it does not have.
    """
    for split in options.splits:
        if split not in info.splits:
            raise UserError(
                f"splits: {options.data} has no split {split!r}; it has {', '.join(info.splits)}"
            )
    return tuple(s for s in info.splits if not options.splits or s in options.splits)


def parts_of(options: Options, info: dataset.DatasetInfo) -> list[Part]:
    """All shards of the job, in order; a split of no records has none."""
    parts = []
    for split in splits_of(options, info):
        total, size = info.num_records(split), options.shard_records
        count = -(-total // size)
        for index in range(count):
            name = shards.shard_name(split, index, count)
            parts.append(Part(name, split, index * size, min((index + 1) * size, total)))
    return parts


def arguments(options: Options) -> dict[str, Any]:
    """Options that decide over the bytes of a shard, as plain values."""
    values = dataclasses.asdict(options)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if k not in _FREE}


def fingerprint(options: Options, info: dataset.DatasetInfo, tower_sha256: str) -> str:
    """Equal fingerprints mean equal shards, on one kind of device and one version of jaxlib."""
    digests = {s: [shard.sha256 for shard in info.splits[s]] for s in splits_of(options, info)}
    values = [VERSION, digests, tower_sha256, arguments(options)]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def claim(out: pathlib.Path, fingerprint_: str) -> None:
    """Makes the folder this job's, or says that it is another's. Several tasks may do so at once.

    Raises:
      UserError: it holds something else, or cannot be made.
    """
    other = "name another folder, or delete this folder if it is no longer wanted"
    job = out / PARTS / _JOB
    if job.exists():
        try:
            found = json.loads(files.read_text(job))["fingerprint"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{job}: damaged; {other}") from None
        if found != fingerprint_:
            raise UserError(
                f"{out}: holds features of other data, another encoder or other arguments; {other}"
            )
        return
    # Another task may be at this very line: its folder, still empty, is no stranger's.
    if out.is_dir() and any(p.name != PARTS for p in out.iterdir()):
        raise UserError(f"{out}: holds files that are not featurize's; {other}")
    try:
        job.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"out={out}: cannot make this folder ({error.strerror}); name another one"
        ) from None
    files.write_text(job, json.dumps({"fingerprint": fingerprint_}) + "\n")
