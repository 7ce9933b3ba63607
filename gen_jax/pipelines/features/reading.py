"""From records to the inputs of a tower: decoded and resized in threads, in the shards' order."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data import images, schema, shards
from gen_jax.data.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a tower reads of a record.

    Attributes:
      spec: name -> shape and dtype of one example.
      read: from a record to arrays of these shapes; ImageError where the record has none.
    """

    spec: Mapping[str, Any]
    read: Callable[[schema.Record], Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """As many records as one device takes at a time, or fewer at the end.

    Attributes:
      records: as they are stored; None where the bytes are no record.
      inputs: what the tower reads, [chunk, ...]; rows without a good record are zeros.
      skipped: row -> name of the record, and why it is left out.
    """

    records: list[schema.Record | None]
    inputs: dict[str, np.ndarray]
    skipped: dict[int, tuple[str, str]]


def square(pixels: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "s s 3"]:
    """The largest square in the middle, by Pillow's antialiased bicubic as towers are trained."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    crop = pixels[top : top + short, left : left + short]
    if short == side:
        return crop
    return np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC))


def of_images(sizes: tuple[int, ...]) -> Inputs:
    """Squares of these sides in pixels, as "image_SIDE"."""

    def read(record: schema.Record) -> dict[str, np.ndarray]:
        pixels = images.decode_fast(record.image)
        return {f"image_{side}": square(pixels, side) for side in sizes}

    return Inputs({f"image_{s}": np.empty((s, s, 3), np.uint8) for s in sizes}, read)


def of_captions(tokenizer: Tokenizer, captions: int, length: int) -> Inputs:
    """Captions as "tokens" and "token_mask", [captions, length].

    An example with fewer captions repeats them; one without any has the empty text.
    """
    spec = {
        "tokens": np.empty((captions, length), np.int32),
        "token_mask": np.empty((captions, length), bool),
    }

    def read(record: schema.Record) -> dict[str, np.ndarray]:
        texts = list(itertools.islice(itertools.cycle(record.captions or ("",)), captions))
        found = tokenizer.encode(texts, length)
        return {"tokens": found.ids, "token_mask": found.mask}

    return Inputs(spec, read)


class _Chunks:
    """Random access to chunks of records; what Grain prefetches from."""

    def __init__(self, records: shards.ShardedRecords, places: Sequence[int], size: int, inputs):
        self._records, self._places = records, places
        self._size, self._inputs = size, inputs

    def __len__(self) -> int:
        return -(-len(self._places) // self._size)

    def __getitem__(self, index: int) -> Chunk | Exception:
        try:
            return self._chunk(int(index))
        except Exception as error:  # Grain would write remarks into its message
            return error

    def _chunk(self, index: int) -> Chunk:
        rows = self._places[index * self._size : (index + 1) * self._size]
        inputs = {
            name: np.zeros((self._size, *of.shape), of.dtype)
            for name, of in self._inputs.spec.items()
        }
        records: list[schema.Record | None] = []
        skipped = {}
        for row, at in enumerate(rows):
            record = None
            try:
                record = schema.unpack(self._records[at])
                for name, value in self._inputs.read(record).items():
                    inputs[name][row] = value
            except (shards.ShardError, schema.RecordError, images.ImageError) as error:
                path, place = self._records.locate(at)
                skipped[row] = (record.key if record else f"{path.name} record {place}", str(error))
            records.append(record)
        return Chunk(records, inputs, skipped)


def chunks(
    records: shards.ShardedRecords,
    places: Sequence[int],
    *,
    size: int,
    inputs: Inputs,
    num_threads: int,
) -> Iterator[Chunk]:
    """Chunks of the records at these places, in this order, prepared ahead by threads.

    Raises:
      UserError: a shard cannot be opened.
    """
    source = _Chunks(records, places, size, inputs)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    iterator = iter(grain.MapDataset.source(source).to_iter_dataset(options))
    try:
        for chunk in iterator:
            if isinstance(chunk, UserError):
                raise chunk
            if isinstance(chunk, Exception):
                raise RuntimeError("reading failed") from chunk
            yield chunk
    finally:
        if hasattr(iterator, "close"):
            iterator.close()
