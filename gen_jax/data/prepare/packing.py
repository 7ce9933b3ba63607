"""One shard of `prepare`: read its images again, resize, encode, pack, write."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from gen_jax.common import files, strict_json
from gen_jax.common.errors import UserError
from gen_jax.data import dataset, images, schema, shards
from gen_jax.data.prepare import plan, quality, record_index, statistics
from gen_jax.data.prepare.sources.base import RawImage, Source


@dataclasses.dataclass(frozen=True)
class Packing:
    """How images are stored.

    Attributes:
      folder: of the shards.
      work: for temporary files, on the same file system.
      size: short side in pixels, 0 to keep it.
      format: "jpeg", "webp", "png"; None keeps files that need no change as they
        are and makes the others JPEG.
      quality: of JPEG and WebP.
    """

    folder: pathlib.Path
    work: pathlib.Path
    size: int
    format: str | None
    quality: int


@dataclasses.dataclass(frozen=True)
class Task:
    """One shard: its file name and what it holds, in order."""

    name: str
    items: tuple[plan.Item, ...]


def _pixels(raw: RawImage) -> tuple[np.ndarray, bool]:
    if raw.pixels is not None:
        return raw.pixels, False
    return images.open_strict(raw.data)


def _record(
    source: Source, item: plan.Item, packing: Packing
) -> tuple[schema.Record, statistics.Sums]:
    raw = source.read(item.index)
    pixels, keepable = _pixels(raw)
    if not source.embedded:
        if quality.pixel_digest(pixels) != item.sha256:
            raise images.ImageError("altered")
        resized = images.resize_short_side(pixels, packing.size)
        keepable = keepable and resized is pixels
        pixels = resized
    if keepable and packing.format is None:
        data = raw.data  # the very file: no second generation of JPEG
    else:
        data = images.encode(pixels, packing.format or "jpeg", packing.quality)
    record = schema.Record(
        key=raw.key,
        image=data,
        height=pixels.shape[0],
        width=pixels.shape[1],
        captions=raw.captions,
        label=raw.label,
        label_name=raw.label_name,
        attributes=raw.attributes,
        sha256=item.sha256,
        mask=b"" if raw.mask is None else _mask(raw.mask, *pixels.shape[:2]),
    )
    return record, statistics.of_image(pixels, bool(raw.captions))


def _mask(mask: np.ndarray, height: int, width: int) -> bytes:
    return images.encode_mask(images.resize_mask(mask, height, width))


def write_task(context: tuple[Source, Packing], task: Task) -> dict[str, Any]:
    """Writes one shard, then its side file that marks it as done; runs in a worker.

    Returns:
      the fields of a `dataset.Shard`.

    Raises:
      UserError: it cannot be written, or an image is not what it was before.
    """
    source, packing = context
    sums, rows = [statistics.empty()], []

    def payloads() -> Iterator[bytes]:
        for item in task.items:
            try:
                record, seen = _record(source, item, packing)
            except images.ImageError as error:
                raise UserError(
                    f"{item.key}: changed while it was being prepared ({error}); "
                    f"delete {packing.work} and run prepare again"
                ) from error
            sums[0] = statistics.merge((sums[0], seen))
            rows.append(record_index.row(record))
            yield schema.pack(record)

    temporary = packing.work / (task.name + ".tmp")
    written = shards.write_shard(packing.folder / task.name, payloads(), temporary)
    record_index.write_rows(packing.work, task.name, rows)
    entry = dataclasses.asdict(dataset.Shard(task.name, *written, sums=sums[0]))
    files.write_text(packing.work / (task.name + ".json"), strict_json.dumps(entry))
    return entry
