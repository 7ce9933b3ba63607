"""`prepare` as a function: from a source to a folder of shards with its dataset.json."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

from gen_jax.common import files, folder_lock, numbers, ranges
from gen_jax.common.app import place_error
from gen_jax.common.errors import UserError
from gen_jax.data import dataset, images, schema, shards, workers
from gen_jax.data.prepare import (
    captioning,
    contact_sheet,
    packing,
    plan,
    record_index,
    sources,
    statistics,
)
from gen_jax.data.prepare.sources.base import Source
from gen_jax.data.prepare.sources.crops import CropsSource
from gen_jax.data.text import captions

WORK = ".prepare"  # what an unfinished preparation leaves for the next run
_JOB = "job.json"
_SHARD_RECORDS, _MAX_SHARDS = 1024, 1024


@dataclasses.dataclass(frozen=True)
class Options:
    """What prepare does.

    Attributes:
      source: see `sources.open_source`.
      out: folder of the data set.
      size: short side of stored images in pixels; 0 keeps their size (embedded
        sources: side of the pictures, 0 for their default).
      rules: acceptance and splits.
      num: records of an embedded source, 0 for its default.
      seed: of an embedded source, and of crops.
      crops: of each picture, in place of the pictures; 0 for whole ones.
      format: "jpeg", "webp" or "png"; "" keeps files that need no change as they
        are and writes JPEG otherwise (embedded sources: PNG).
      quality: of JPEG and WebP, 1 to 100.
      shard_records: records in a shard; 0 for 1024, or more where a split would
        need over 1024 shards.
      masks: Pattern of the masks' names, see `sources.mask_names.named`; "" for those that
        captions.jsonl names.
      workers: processes; 0 for one a core. It does not influence the result.
      captioner: Model that writes captions of images without one; None writes none.
    """

    source: str
    out: str
    size: int = 0
    rules: plan.Rules = dataclasses.field(default_factory=plan.Rules)
    num: int = 0
    seed: int = 0
    crops: int = 0
    format: str = ""
    quality: int = 95
    shard_records: int = 0
    masks: str = ""
    workers: int = 0
    captioner: captioning.Settings | None = None


def check(options: Options) -> None:
    """Raises UserError for a value out of its range, naming the option."""
    rules = options.rules
    for name, value, low, high in (
        ("size", options.size, 0, 16384),
        ("num", options.num, 0, 10**9),
        ("seed", options.seed, 0, 2**63 - 1),
        ("crops", options.crops, 0, 10**6),
        ("quality", options.quality, 1, 100),
        ("workers", options.workers, 0, 1024),
        ("shard_records", options.shard_records, 0, 10**9),
        ("max_bad", rules.max_bad, -1, 10**12),
        ("min_side", rules.min_side, 1, 16384),
    ):
        numbers.parse(value, name, int, low, high)
    if options.format not in ("", *images.FORMATS):
        raise UserError(f"format={options.format}: expected one of {', '.join(images.FORMATS)}")
    for name in ("val_fraction", "test_fraction"):
        ranges.check_range(getattr(rules, name), ranges.BELOW_1, name)
    if rules.val_fraction + rules.test_fraction >= 1.0:
        raise UserError("val_fraction and test_fraction leave nothing to train on; lower them")
    if options.captioner is not None:
        captioning.check(options.captioner)


def _check_out(options: Options) -> None:
    """Refuses to write the data set among the images that it is made of."""
    out, source = pathlib.Path(options.out), pathlib.Path(options.source)
    if options.source in (*sources.EMBEDDED, *sources.LABELED) or not (
        out.is_dir() and source.is_dir()
    ):
        return
    if os.path.samefile(out, source):
        raise UserError(
            f"out={options.out}: is the folder of images itself; name another one for the data "
            f"set, such as {options.out.rstrip('/')}_prepared"
        )


def _arguments(options: Options) -> dict:
    """All options that decide over the bytes: workers, max_bad and the place do not."""
    values = dataclasses.asdict(options)
    for name in ("source", "out", "workers", "captioner"):
        del values[name]
    if options.captioner is not None:
        values |= options.captioner.arguments()
    values |= values.pop("rules")
    del values["max_bad"]
    if not options.crops:  # as data sets were described that are older than crops
        del values["crops"]
    if not options.masks:  # likewise
        del values["masks"]
    return values


def _fingerprint(source: Source, options: Options) -> str:
    values = [schema.SCHEMA_VERSION, source.name, source.identity(), _arguments(options)]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _claim(out: pathlib.Path, fingerprint: str) -> Iterator[pathlib.Path]:
    """Makes the out folder ours for this job, or says whose it is; yields the work folder."""
    other = "name another folder, or delete this folder if it is no longer wanted"
    if (out / dataset.FILE).exists() and dataset.load(out).fingerprint != fingerprint:
        raise UserError(
            f"{out}: already holds another data set (another source or other arguments, or the "
            f"source has changed since); {other}"
        )
    work = out / WORK
    if not work.exists() and not (out / dataset.FILE).exists() and any(out.glob("*.arrayrecord")):
        raise UserError(f"{out}: holds shards but no {dataset.FILE}; {other}")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"out={out}: cannot make this folder ({error.strerror}); name another one"
        ) from None
    with folder_lock.held(out, work / "lock", "out"):
        job = work / _JOB
        if job.exists() and json.loads(files.read_text(job))["fingerprint"] != fingerprint:
            raise UserError(
                f"{out}: holds an unfinished data set of another source or other arguments; {other}"
            )
        files.write_text(job, json.dumps({"fingerprint": fingerprint}))
        names = (dataset.FILE, contact_sheet.FILE, record_index.FILE, captions.FILE)
        for pattern in (f"{WORK}/*.tmp", *(f".{name}.*.tmp" for name in names)):
            for leftover in out.glob(pattern):  # by a process that was killed
                leftover.unlink()
        yield work


def _tasks(planned: plan.Plan, shard_records: int) -> list[packing.Task]:
    tasks = []
    for split, items in planned.splits.items():
        size = shard_records or max(_SHARD_RECORDS, -(-len(items) // _MAX_SHARDS))
        count = -(-len(items) // size)
        for index in range(count):
            name = shards.shard_name(split, index, count)
            tasks.append(packing.Task(name, items[index * size : (index + 1) * size]))
    return tasks


def _standing(
    tasks: Sequence[packing.Task], out: pathlib.Path, work: pathlib.Path
) -> dict[str, dataset.Shard]:
    """Shards of an earlier run that are finished and whose digests still agree."""
    known: dict[str, dataset.Shard] = {}
    if (out / dataset.FILE).exists():
        known = {s.file: s for group in dataset.load(out).splits.values() for s in group}
    for task in tasks:
        side = work / (task.name + ".json")
        if side.exists():
            known[task.name] = dataset.Shard(**json.loads(files.read_text(side)))
    standing = {}
    for task in tasks:
        shard = known.get(task.name)
        if shard is None or shard.records != len(task.items):
            continue
        with contextlib.suppress(UserError):
            dataset.check_shard(out / task.name, shard, "digest")
            standing[task.name] = shard
    return standing


def _write_all(
    source: Source, options: Options, planned: plan.Plan, work: pathlib.Path, processes: int
) -> dict[str, dataset.Shard]:
    out = pathlib.Path(options.out)
    tasks = _tasks(planned, options.shard_records)
    done = _standing(tasks, out, work)
    how = packing.Packing(
        folder=out,
        work=work,
        size=options.size,
        format=options.format or source.default_format,
        quality=options.quality,
    )
    todo = [task for task in tasks if task.name not in done]
    results = workers.ordered_map(
        packing.write_task,
        (source, how),
        todo,
        workers=processes,
        label="writing",
        sizes=[len(task.items) for task in todo],
    )
    for entry in results:
        done[entry["file"]] = dataset.Shard(**entry)
    return {task.name: done[task.name] for task in tasks}


def _is_complete(out: pathlib.Path) -> bool:
    if not (out / dataset.FILE).exists() or not (out / contact_sheet.FILE).exists():
        return False
    info = dataset.load(out)
    try:
        for shard in (s for group in info.splits.values() for s in group):
            dataset.check_shard(out / shard.file, shard, "digest")
    except UserError:
        return False
    return True


def prepare(options: Options) -> dataset.DatasetInfo:
    """Prepares a data set, or finishes what an earlier run of the same command began.

    The result is the same, byte for byte, for any number of workers and
    interruptions. A finished data set is checked and left alone.

    Raises:
      UserError: an option, the source or the out folder is not usable.
    """
    check(options)
    _check_out(options)
    source = sources.open_source(
        options.source,
        num=options.num,
        size=options.size,
        seed=options.seed,
        exclude=[options.out],
        masks=options.masks,
    )
    if options.crops:
        source = CropsSource(source, options.crops, options.size, options.seed)
    out = pathlib.Path(options.out)
    fingerprint = _fingerprint(source, options)
    processes = options.workers or workers.default_workers()
    try:
        with _claim(out, fingerprint) as work:
            if not _is_complete(out):
                planned = plan.make_plan(source, options.rules, work, processes)
                if options.captioner is not None:
                    source, planned = captioning.write_captions(
                        source, planned, options.captioner, out
                    )
                written = _write_all(source, options, planned, work, processes)
                groups = {
                    split: tuple(s for s in written.values() if s.file.startswith(f"{split}-"))
                    for split in planned.splits
                }
                info = dataset.DatasetInfo(
                    name=source.name,
                    source=str(options.source),
                    arguments=_arguments(options) | {"identity": source.identity()},
                    fingerprint=fingerprint,
                    splits=groups,
                    label_names=tuple(source.label_names()),
                    statistics={
                        split: statistics.summary(statistics.merge(s.sums for s in group))
                        for split, group in groups.items()
                    },
                    quality=planned.report,
                )
                contact_sheet.write(out, info)
                record_index.write(out, work, info)
                dataset.write(out, info)
            # Last: whatever happens before, the next run finds its way from here.
            shutil.rmtree(work)
    except OSError as error:
        raise (place_error(error) or error) from error
    return dataset.load(out)
