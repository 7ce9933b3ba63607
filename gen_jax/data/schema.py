"""What one example is, and how it lies in a shard: the only definition of a record.

A record is a msgpack map. Images stay encoded (JPEG, PNG or WebP): the loader
decodes them, so a shard is as small as the pictures it was made from.
"""

import dataclasses
from typing import Any

import msgpack

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
      image: the encoded image (JPEG, PNG or WebP), RGB or gray, 8 bits a channel.
      height: of the decoded image, in pixels.
      width: of the decoded image, in pixels.
      captions: true descriptions, any number of them, in any language.
      label: class index, or -1 where there is none.
      label_name: its name, or "".
      attributes: anything else that JSON can hold.
      sha256: hex digest of the content that the split was drawn from (decoded
        source pixels; for a drawn or cropped example, its description).
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


_FIELDS = {field.name for field in dataclasses.fields(Record)}


def pack(record: Record) -> bytes:
    """Encodes a record; equal records give equal bytes."""
    values = {"version": SCHEMA_VERSION}
    for field in dataclasses.fields(Record):
        values[field.name] = getattr(record, field.name)
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
    if set(values) != _FIELDS:
        odd = ", ".join(sorted(set(values) ^ _FIELDS, key=str))
        raise RecordError(f"its fields differ from the schema's: {odd}")
    values["captions"] = tuple(values["captions"])
    return Record(**values)
