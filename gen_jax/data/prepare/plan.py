"""First half of `prepare`: look at every image, decide which stay and where they go."""

import dataclasses
import json
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from gen_jax.common import files, left_out, strict_json
from gen_jax.common.errors import UserError
from gen_jax.data import images, workers
from gen_jax.data.prepare import quality
from gen_jax.data.prepare.sources.base import SPLITS, TEST, TRAIN, VAL, Rejected, Source

_CHUNK = 256  # images per task
_LISTED = 200  # rejected files that the report names, of each reason


@dataclasses.dataclass(frozen=True)
class Rules:
    """What decides over acceptance and splits.

    Attributes:
      val_fraction: share of the split "val".
      test_fraction: share of the split "test".
      min_side: shortest acceptable side in pixels.
      near_duplicates: whether near duplicates are rejected.
      max_bad: damaged files to put up with; -1 for any number.
    """

    val_fraction: float = 0.05
    test_fraction: float = 0.05
    min_side: int = 16
    near_duplicates: bool = True
    max_bad: int = 100


@dataclasses.dataclass(frozen=True)
class Item:
    """One accepted example.

    Attributes:
      sha256: Hex digest of its content.
      key: Its name.
      index: Its index in the source.
      has_caption: Whether the source has a caption of it.
    """

    sha256: str
    key: str
    index: int
    has_caption: bool = True


@dataclasses.dataclass(frozen=True)
class Plan:
    """Accepted examples of each split in their final order, and the quality report."""

    splits: dict[str, tuple[Item, ...]]
    report: dict[str, Any]


def look(context: tuple[Source, Rules], chunk: tuple[int, int]) -> list[dict[str, Any]]:
    """Examines the images [chunk[0], chunk[1]) of a source; runs in a worker."""
    source, rules = context
    found = []
    for index in range(*chunk):
        raw = None
        try:
            raw = source.read(index)
            pixels = raw.pixels if raw.pixels is not None else images.open_strict(raw.data)[0]
            quality.check_mask(raw.mask, pixels)
            seen = quality.examine(pixels, min_side=rules.min_side, near=rules.near_duplicates)
            thumb = seen.thumb.hex() if seen.thumb else None
            entry = {"key": raw.key, "sha256": seen.sha256, "phash": seen.phash, "t": thumb}
            entry |= {"group": raw.group or seen.sha256, "split": raw.split}
            found.append({**entry, "captioned": bool(raw.captions)})
        except images.ImageError as error:
            key = raw.key if raw is not None else getattr(error, "key", f"#{index}")
            found.append({"key": key, "reason": error.reason, "detail": str(error)})
    return found


def _scan(source: Source, rules: Rules, work: pathlib.Path, processes: int) -> list[dict]:
    """`look` at everything; chunks that an earlier, interrupted run finished are read back."""
    chunks = [(at, min(at + _CHUNK, len(source))) for at in range(0, len(source), _CHUNK)]
    scanned = [work / f"scan-{number:06d}.json" for number in range(len(chunks))]
    todo = [number for number, file in enumerate(scanned) if not file.exists()]
    tasks = [chunks[number] for number in todo]
    results = workers.ordered_map(
        look,
        (source, rules),
        tasks,
        workers=processes,
        label="looking",
        sizes=[stop - start for start, stop in tasks],
    )
    bad = 0
    for number, found in zip(todo, results, strict=True):
        files.write_text(scanned[number], strict_json.dumps(found))
        bad += sum(entry.get("reason") in quality.DAMAGED for entry in found)
        if 0 <= rules.max_bad < bad:
            break  # no need to read the rest: `_check_budget` will stop
    return [
        entry for file in scanned if file.exists() for entry in json.loads(files.read_text(file))
    ]


def _check_budget(rejected: list[dict], max_bad: int) -> None:
    damaged = [entry for entry in rejected if entry["reason"] in quality.DAMAGED]
    if 0 <= max_bad < len(damaged):
        first = ", ".join(f"{entry['key']} ({entry['reason']})" for entry in damaged[:3])
        raise UserError(
            f"more than max_bad={max_bad} files cannot be used, the first: {first}; "
            "mend or remove them, or raise max_bad (-1 accepts any number)"
        )


def _report(total: int, kept: int, rejected: list[dict]) -> dict[str, Any]:
    counts = Counter(entry["reason"] for entry in rejected)
    named: dict[str, list[dict]] = {reason: [] for reason in sorted(counts)}
    for entry in rejected:
        if len(named[entry["reason"]]) < _LISTED:
            details = {"file": entry["key"], "detail": entry.get("detail", "")}
            named[entry["reason"]].append(details)
    return {
        "examined": total,
        "accepted": kept,
        "rejected": dict(sorted(counts.items())),
        "files": named,
    }


def rejected_summary(report: dict[str, Any]) -> str:
    """Returns one line on what a quality report says is left out; "" if it is nothing.

    Files that the rules reject are counted alone, all others come with the first one and why.
    """
    first = [
        left_out.LeftOut(
            entries[0]["file"], reason, entries[0]["detail"].removeprefix(f"{reason}: ")
        )
        for reason, entries in report.get("files", {}).items()
        if reason not in quality.CHOICES
    ]
    return left_out.summary(first, report.get("rejected", {}))


def make_plan(source: Source, rules: Rules, work: pathlib.Path, processes: int) -> Plan:
    """Decides over every image of a source.

    The decision depends on the images alone, never on the number of workers.

    Args:
      source: where the images are.
      rules: what is acceptable.
      work: folder for results that a later run can take up.
      processes: how many workers look.

    Raises:
      UserError: too many damaged files, or nothing is left.
    """
    placed: dict[str, list[Item]] = {}
    rejected: list[dict] = []

    def place(item: Item, split: str | None, group: str) -> None:
        name = split or split_of(group, rules.val_fraction, rules.test_fraction)
        placed.setdefault(name, []).append(item)

    if source.embedded:
        for index in range(len(source)):
            known = source.describe(index)
            place(Item(known.sha256, known.key, index), known.split, known.sha256)
        total = len(source)
    else:
        entries = _scan(source, rules, work, processes)
        rejected += [dataclasses.asdict(item) for item in getattr(source, "left_out", list)()]
        rejected += [entry for entry in entries if "reason" in entry]
        _check_budget(rejected, rules.max_bad)
        looks = [
            quality.Look(e["sha256"], e["phash"], bytes.fromhex(e["t"]) if e["t"] else None)
            if "sha256" in e
            else None
            for e in entries
        ]
        repeats = quality.find_duplicates(looks)
        for index, entry in enumerate(entries):
            if index in repeats:
                twin, reason = repeats[index]
                detail = f"of {entries[twin]['key']}"
                rejected.append({"key": entry["key"], "reason": reason, "detail": detail})
            elif "sha256" in entry:
                group = entry.get("group", entry["sha256"])  # none in what an older one left
                captioned = entry.get("captioned", True)
                item = Item(entry["sha256"], entry["key"], index, captioned)
                place(item, entry.get("split"), group)
        total = len(entries)
    kept = sum(map(len, placed.values()))
    report = _report(total, kept, rejected)
    if not kept:
        why = rejected_summary(report)
        raise UserError(f"no usable image in the source ({why or 'it is empty'})")
    order = {name: place for place, name in enumerate(SPLITS)}
    names = sorted(placed, key=lambda name: (order.get(name, len(order)), name))
    # By content, so that neighbours in a shard have nothing in common.
    return Plan(
        {name: tuple(sorted(placed[name], key=lambda i: (i.sha256, i.key))) for name in names},
        report,
    )


def with_rejected(
    planned: Plan, rejected: Sequence[Rejected], report: dict[str, Any] | None = None
) -> Plan:
    """Returns a plan without images that a later step rejects.

    Args:
      planned: Accepted images.
      rejected: Images to leave out, which the report then counts and names.
      report: Further entries of the report.

    Raises:
      UserError: No image is left.
    """
    keys = {item.key for item in rejected}
    splits = {
        name: tuple(item for item in items if item.key not in keys)
        for name, items in planned.splits.items()
    }
    splits = {name: items for name, items in splits.items() if items}
    added = _report(0, 0, [dataclasses.asdict(item) for item in rejected])
    merged = {
        **planned.report,
        "accepted": sum(map(len, splits.values())),
        "rejected": dict(sorted({**planned.report["rejected"], **added["rejected"]}.items())),
        "files": dict(sorted({**planned.report["files"], **added["files"]}.items())),
        **(report or {}),
    }
    if not splits:
        raise UserError(f"no usable image is left ({rejected_summary(merged)})")
    return Plan(splits, merged)


def split_of(sha256: str, val_fraction: float, test_fraction: float) -> str:
    """Returns the split of an image, a pure function of its content.

    Images added later never move earlier ones, and one image is never in two splits.

    Args:
      sha256: Hex digest of the content.
      val_fraction: Share of "val", in [0, 1).
      test_fraction: Share of "test", in [0, 1); the rest is "train".
    """
    # The last 13 digits: keys and shard order use the first ones.
    place = int(sha256[-13:], 16) / 16**13
    if place < test_fraction:
        return TEST
    # Counted from the other end, so that changing one fraction leaves the other split alone.
    if place >= 1.0 - val_fraction:
        return VAL
    return TRAIN
