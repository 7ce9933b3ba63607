"""What one example is, and how it lies in a shard: the only definition of a record.

A record is a msgpack map. Images stay encoded (JPEG, PNG or WebP): the loader
decodes them, so a shard is as small as the pictures it was made from. Features of
frozen encoders lie beside or instead of them as raw arrays.
"""

import dataclasses
from typing import Any

import ml_dtypes
import msgpack
import numpy as np

# Raise it when a field changes its meaning: a loader refuses shards of another version.
SCHEMA_VERSION = 1

# Written where a record has no class.
NO_LABEL = -1


class RecordError(ValueError):
    """These bytes are no record of this schema version; the message says why."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One example.

    Attributes:
      key: stable name, unique in its data set (for a folder: the path inside it).
      image: the encoded image (JPEG, PNG or WebP), RGB or gray, 8 bits a channel; b"" in a
        record of features alone.
      height: of the decoded image, in pixels.
      width: of the decoded image, in pixels.
      captions: true descriptions, any number of them, in any language.
      label: class index, or -1 where there is none.
      label_name: its name, or "".
      attributes: anything else that JSON can hold.
      sha256: hex digest of the content (decoded source pixels; for a drawn or cropped example of
        an embedded source, its description). The split is drawn from it, or, of the crops of one
        picture, from the picture's.
      arrays: features by name, see `data.features`. A record without any has the bytes
        that it had before there were features.
      mask: Label map of the image: a PNG of one 8-bit channel and of the image's size that holds a
        class per pixel; b"" without one, and then the record has the bytes that it had before
        there were masks.
    """

    key: str
    image: bytes
    height: int
    width: int
    captions: tuple[str, ...] = ()
    label: int = NO_LABEL
    label_name: str = ""
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    sha256: str = ""
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    mask: bytes = b""


_OPTIONAL = {"arrays", "mask"}
_FIELDS = {field.name for field in dataclasses.fields(Record)} - _OPTIONAL
_DTYPES = {
    name: np.dtype(kind)
    for name, kind in (
        ("int8", np.int8),
        ("int32", np.int32),
        ("float32", np.float32),
        ("bfloat16", ml_dtypes.bfloat16),
    )
}


def pack(record: Record) -> bytes:
    """Encodes a record; equal records give equal bytes."""
    values = {"version": SCHEMA_VERSION}
    for field in dataclasses.fields(Record):
        values[field.name] = getattr(record, field.name)
    if record.arrays:
        values["arrays"] = {name: _pack_array(name, x) for name, x in record.arrays.items()}
    else:
        del values["arrays"]
    if not record.mask:
        del values["mask"]
    return msgpack.packb(values, use_bin_type=True)


def unpack(data: bytes) -> Record:
    """Decodes a record.

    Raises:
      RecordError: the bytes are damaged or of another schema version.
    """
    try:
        values = msgpack.unpackb(data, raw=False, strict_map_key=False)
    except Exception as error:  # msgpack raises a dozen unrelated types
        raise RecordError(f"not a msgpack map ({type(error).__name__})") from None
    if not isinstance(values, dict) or "version" not in values:
        raise RecordError("not a record: it has no version")
    version = values.pop("version")
    if version != SCHEMA_VERSION:
        raise RecordError(f"schema version {version}, this code reads {SCHEMA_VERSION}")
    if set(values) - _OPTIONAL != _FIELDS:
        odd = ", ".join(sorted((set(values) - _OPTIONAL) ^ _FIELDS, key=str))
        raise RecordError(f"its fields differ from the schema's: {odd}")
    values["captions"] = tuple(values["captions"])
    if "arrays" in values:
        values["arrays"] = {k: _unpack_array(k, x) for k, x in values["arrays"].items()}
    return Record(**values)


def _pack_array(name: str, array: np.ndarray) -> list[Any]:
    if array.dtype.name not in _DTYPES:
        raise TypeError(f"array {name!r} is {array.dtype}; expected one of {', '.join(_DTYPES)}")
    return [array.dtype.name, list(array.shape), array.tobytes()]


def _unpack_array(name: str, packed: Any) -> np.ndarray:
    """A view of the record's bytes, which is read-only."""
    try:
        dtype, shape, data = packed
        return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"array {name!r} is damaged ({error})") from None
