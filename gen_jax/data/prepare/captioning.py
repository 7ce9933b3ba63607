"""Captions for images without one, written by a model and filtered, as a step of `prepare`."""

import concurrent.futures
import dataclasses
import importlib.util
import json
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from gen_jax.common import files, numbers, ranges, strict_json
from gen_jax.common.errors import UserError
from gen_jax.data import images
from gen_jax.data.prepare import caption_filter, quality
from gen_jax.data.prepare.caption_process import CaptionProcess
from gen_jax.data.prepare.plan import Item, Plan, with_rejected
from gen_jax.data.prepare.sources.base import RawImage, Rejected, Source
from gen_jax.data.text import captions

DEFAULT_PREFIX = "An engraving depicting"
_SHORT_SIDE = 384  # pixels of what the model sees, which resizes to its own size (BLIP-2: 224)
_HUB_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


@dataclasses.dataclass(frozen=True)
class Captioner:
    """A kind of captioning model.

    Attributes:
      module: Module that its process runs.
      model: Name of the default model on the Hugging Face Hub.
      needed: Modules that the process imports.
    """

    module: str
    model: str
    needed: tuple[str, ...]


CAPTIONERS = {
    "blip2": Captioner(
        "gen_jax.data.prepare.blip2", "Salesforce/blip2-opt-2.7b", ("torch", "transformers")
    )
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How captions are written.

    Attributes:
      caption: Key of CAPTIONERS, then a colon and a model if it is not the default one: a folder
        or a name on the Hugging Face Hub.
      prefix: Text that each caption begins with and that the model continues; "" for none.
      num_beams: Number of beams of beam search.
      top_p: Probability mass of nucleus sampling; 0 for beam search.
      max_new_tokens: Largest number of tokens after the prefix.
      batch_size: Images per batch.
    """

    caption: str
    prefix: str = DEFAULT_PREFIX
    num_beams: int = 5
    top_p: float = 0.0
    max_new_tokens: int = 40
    batch_size: int = 8

    @property
    def kind(self) -> Captioner:
        """The kind of model."""
        return CAPTIONERS[self.caption.partition(":")[0]]

    @property
    def model(self) -> str:
        """Folder of the model, or its name on the hub."""
        return self.caption.partition(":")[2] or self.kind.model

    def arguments(self) -> dict[str, Any]:
        """Returns what the captions depend on, for the description of the data set."""
        values = {"caption_model": self.model, "caption_prefix": self.prefix}
        decoding = ("num_beams", "top_p", "max_new_tokens")
        return values | {f"caption_{name}": getattr(self, name) for name in decoding}


def check(settings: Settings) -> None:
    """Checks settings before any work.

    Raises:
      UserError: A value is out of its range, there is no such model, or a package is missing.
    """
    kind, _, model = settings.caption.partition(":")
    if kind not in CAPTIONERS:
        known = ", ".join(CAPTIONERS)
        raise UserError(f"caption={settings.caption}: expected one of {known}, or {known}:MODEL")
    if os.path.isdir(model):
        if not os.path.isfile(os.path.join(model, "config.json")):
            raise UserError(f"caption={settings.caption}: {model} holds no config.json of a model")
    elif model and not _HUB_NAME.fullmatch(model):
        raise UserError(
            f"caption={settings.caption}: no such folder; expected a folder of a model or its "
            "name on the Hugging Face Hub"
        )
    for name, value, low, high in (
        ("caption_beams", settings.num_beams, 1, 64),
        ("caption_tokens", settings.max_new_tokens, 1, 512),
        ("caption_batch", settings.batch_size, 1, 4096),
    ):
        numbers.parse(value, name, int, low, high)
    ranges.check_range(settings.top_p, ranges.BELOW_1, "caption_top_p")
    if missing := [name for name in settings.kind.needed if not importlib.util.find_spec(name)]:
        raise UserError(
            f"caption={settings.caption}: {' and '.join(missing)} not installed; run pip install "
            "'gen_jax[caption]', or in a checkout pip install -e '.[caption]' -c constraints.txt"
        )


@dataclasses.dataclass(frozen=True)
class Written:
    """One line of captions.jsonl that a model wrote.

    Attributes:
      file: Key of the image.
      caption: Prefix and continuation.
      model: Folder of the model, or its name on the hub.
      prefix: Text that the model was prompted with.
      sha256: Hex digest of the image's pixels.
      rejected: Reason why the caption is not used; "" if it is.
    """

    file: str
    caption: str
    model: str
    prefix: str
    sha256: str
    rejected: str = ""

    def line(self) -> bytes:
        """Returns the line of the file, with "rejected" only if the caption is not used."""
        values = {k: v for k, v in dataclasses.asdict(self).items() if v or k != "rejected"}
        return strict_json.dumps(values, ensure_ascii=False).encode() + b"\n"


def read_written(path: pathlib.Path, settings: Settings) -> dict[tuple[str, str], Written]:
    """Reads the captions that an earlier run wrote with the same model and prefix.

    A last line without its end, which a crash left, is cut off. Lines of other programs are
    ignored.

    Returns:
      (key of the image, digest of its pixels) -> what was written about it.
    """
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        files.write_bytes(path, whole)
    fields = {field.name for field in dataclasses.fields(Written)}
    result = {}
    for line in whole.splitlines():
        try:
            values = json.loads(line)
            entry = Written(**{k: v for k, v in values.items() if k in fields})
        except (ValueError, TypeError, AttributeError):
            continue
        if (entry.model, entry.prefix) == (settings.model, settings.prefix):
            result[entry.file, entry.sha256] = entry
    return result


def write_captions(
    source: Source, planned: Plan, settings: Settings, out: pathlib.Path
) -> tuple[Source, Plan]:
    """Writes the captions of accepted images that have none, and leaves out the rejected ones.

    Each caption is a line of OUT/captions.jsonl as soon as its batch is done, so an interrupted
    run goes on behind the last one. An image whose caption is rejected is left out of the data
    set: a record without a caption would teach the empty text.

    Args:
      source: Source of the images.
      planned: Accepted images.
      settings: Model and decoding.
      out: Folder of the data set.

    Returns:
      A source that gives the captions with the images, and the plan without rejected ones, whose
      report counts them by reason under "captions".

    Raises:
      UserError: The model cannot be loaded, its process ended, or no image is left.
    """
    path = out / captions.FILE
    wanted = [i for items in planned.splits.values() for i in items if not i.has_caption]
    written = read_written(path, settings)
    todo = [item for item in wanted if (item.key, item.sha256) not in written]
    if todo:
        with open(path, "ab") as file:
            for entry in _describe(source, todo, settings, len(wanted)):
                _append(file, entry)
                written[entry.file, entry.sha256] = entry
    entries = [written[item.key, item.sha256] for item in wanted]
    rejected = [
        Rejected(entry.file, quality.CAPTION, f"{entry.rejected}: {entry.caption}")
        for entry in entries
        if entry.rejected
    ]
    reasons = Counter(entry.rejected for entry in entries if entry.rejected)
    report = {
        **settings.arguments(),
        "written": len(entries),
        "rejected": dict(sorted(reasons.items())),
        "reject_rate": round(len(rejected) / len(entries), 4) if entries else 0.0,
    }
    texts = {entry.file: entry for entry in entries}
    return CaptionedSource(source, texts), with_rejected(planned, rejected, {"captions": report})


def summary(report: dict[str, Any]) -> str:
    """Returns one line on the captions of a quality report; "" if a model wrote none."""
    values = report.get("captions")
    if not values:
        return ""
    count = sum(values["rejected"].values())
    text = f"captions: {values['written']} written by {values['caption_model']}"
    if not count:
        return f"{text}, none rejected"
    reasons = ", ".join(f"{number} {reason}" for reason, number in values["rejected"].items())
    return f"{text}, {count} rejected ({100 * values['reject_rate']:.1f}%): {reasons}"


def _append(file: BinaryIO, entry: Written) -> None:
    file.write(entry.line())
    file.flush()
    os.fsync(file.fileno())


def _describe(
    source: Source, todo: Sequence[Item], settings: Settings, total: int
) -> Iterator[Written]:
    from gen_jax.common.progress import ProgressLine  # rich, which workers need not import

    values = {**dataclasses.asdict(settings), "model": settings.model}
    size = settings.batch_size
    batches = [todo[at : at + size] for at in range(0, len(todo), size)]
    done = total - len(todo)
    with (
        CaptionProcess(settings.kind.module, values) as process,
        ProgressLine(f"captioning ({process.device})", total, done, unit="image") as line,
        # The next batch is decoded while the model works; one thread, because sources keep state.
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        ahead = pool.submit(_read, source, batches[0])
        for number, batch in enumerate(batches):
            shown = ahead.result()
            if number + 1 < len(batches):
                ahead = pool.submit(_read, source, batches[number + 1])
            seeds = [int(item.sha256[:15], 16) for item in batch]
            for item, text in zip(batch, process.describe(shown, seeds), strict=True):
                continuation = caption_filter.clean(text)
                yield Written(
                    file=item.key,
                    caption=caption_filter.joined(settings.prefix, continuation),
                    model=settings.model,
                    prefix=settings.prefix,
                    sha256=item.sha256,
                    rejected=caption_filter.rejection(settings.prefix, continuation),
                )
            done += len(batch)
            line.update(done, {})


def _read(source: Source, batch: Sequence[Item]) -> list[np.ndarray]:
    """Reads the images of a batch, no larger than the model needs."""
    result = []
    for item in batch:
        try:
            raw = source.read(item.index)
            pixels = raw.pixels if raw.pixels is not None else images.open_strict(raw.data)[0]
        except images.ImageError as error:
            raise UserError(
                f"{item.key}: changed while it was being prepared ({error}); run prepare again"
            ) from error
        result.append(images.resize_short_side(pixels, _SHORT_SIDE))
    return result


class CaptionedSource:
    """A source with captions for images that have none of their own."""

    def __init__(self, source: Source, written: dict[str, Written]):
        """Wraps a source.

        Args:
          source: Source of the images.
          written: Caption of an image by its key.
        """
        self._source, self._written = source, written
        self.name, self.embedded = source.name, source.embedded
        self.default_format = source.default_format

    def __len__(self) -> int:
        return len(self._source)

    def identity(self) -> dict[str, Any]:
        return self._source.identity()

    def label_names(self) -> list[str]:
        return self._source.label_names()

    def read(self, index: int) -> RawImage:
        raw = self._source.read(index)
        entry = self._written.get(raw.key)
        if raw.captions or entry is None:
            return raw
        # The same attributes as of a folder whose captions.jsonl is the one that was written.
        origin = {"model": entry.model, "prefix": entry.prefix, "sha256": entry.sha256}
        return dataclasses.replace(
            raw, captions=(entry.caption,), attributes={**raw.attributes, **origin}
        )
