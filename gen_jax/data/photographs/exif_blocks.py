"""EXIF, byte by byte, as the TIFF structure that it is (TIFF 6.0, section 2; EXIF 2.32, 4.6).

Pillow decodes and encodes every value, which turns names outside ASCII into question marks and
moves what manufacturers' notes point to. Here values stay as they are stored; the few that the
pixels contradict are overwritten in place.
"""

import dataclasses
import struct
from collections.abc import Mapping

EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005
_POINTERS = (EXIF, GPS, INTEROPERABILITY)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_FORMATS = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i"}
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


@dataclasses.dataclass(frozen=True)
class Field:
    """One tag's value.

    Attributes:
      kind: TIFF's number of its type.
      count: How many values of that type it holds.
      data: The values as they are stored, or the directory that they point to.
      place: Where the values begin in the block; 0 if they are in none yet.
    """

    kind: int
    count: int
    data: "bytes | Directory"
    place: int = 0


Directory = Mapping[int, Field]


def order_of(block: bytes) -> str:
    """Returns the byte order of a block or TIFF file as `struct` writes it.

    Raises:
      ValueError: It is neither.
    """
    if block[:4] not in _ORDERS:
        raise ValueError("neither EXIF nor a TIFF file")
    return _ORDERS[block[:4]]


def parse(block: bytes, at: int | None = None) -> Directory:
    """Reads a directory with those that it points to.

    Args:
      block: EXIF without JPEG's prefix, or a TIFF file.
      at: Where the directory begins; None for the first one.

    Returns:
      Tag -> field; a field that points beyond the block is left out.

    Raises:
      ValueError: The block is damaged.
    """
    order = order_of(block)
    try:
        at = struct.unpack_from(order + "I", block, 4)[0] if at is None else at
        (count,) = struct.unpack_from(order + "H", block, at)
        fields = {}
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(order + "HHI", block, entry)
            size = _SIZES.get(kind, 0) * number
            place = entry + 8 if size <= 4 else struct.unpack_from(order + "I", block, entry + 8)[0]
            data = block[place : place + size]
            if kind not in _SIZES or len(data) < size:
                continue
            if tag in _POINTERS:
                data = parse(block, struct.unpack(order + "I", data)[0])
            fields[tag] = Field(kind, number, data, place)
    except (struct.error, RecursionError):
        raise ValueError("its EXIF is damaged") from None
    return fields


def flat(directory: Directory, name: int = 0) -> dict[tuple[int, int], Field]:
    """Returns (directory's tag, or 0 for the main one; tag) -> field, of all directories."""
    fields = {}
    for tag, field in directory.items():
        if isinstance(field.data, bytes):
            fields[name, tag] = field
        else:
            fields |= flat(field.data, tag)
    return fields


def serialize(directory: Directory, order: str, at: int) -> bytes:
    """Returns a directory's bytes, for a block in which they begin at offset `at`.

    Values follow the entries; there is no next directory.
    """
    head, values = [struct.pack(order + "H", len(directory))], b""
    after = at + 2 + 12 * len(directory) + 4
    for tag in sorted(directory):
        field = directory[tag]
        if isinstance(field.data, bytes):
            kind, count, data = field.kind, field.count, field.data
            inline = len(data) <= 4
        else:
            kind, count, inline = 4, 1, False
            data = serialize(field.data, order, after + len(values))
        place = data.ljust(4, b"\0") if inline else struct.pack(order + "I", after + len(values))
        head.append(struct.pack(order + "HHI", tag, kind, count) + place)
        if not inline:
            values += data + bytes(len(data) % 2)  # values begin at even places
    return b"".join(head) + bytes(4) + values


def block_of(directory: Directory, order: str) -> bytes:
    """Returns a block that holds a directory."""
    return (
        {"<": b"II*\0", ">": b"MM\0*"}[order]
        + struct.pack(order + "I", 8)
        + serialize(directory, order, 8)
    )


def with_numbers(block: bytes, numbers: Mapping[tuple[int, int], int]) -> bytes:
    """Overwrites whole numbers that a block holds already, and unlinks its thumbnail.

    Args:
      block: EXIF without JPEG's prefix.
      numbers: (directory's tag, or 0 for the main one; tag) -> number.

    Raises:
      ValueError: The block is damaged.
    """
    order, fields, out = order_of(block), flat(parse(block)), bytearray(block)
    for key, number in numbers.items():
        field = fields.get(key)
        if field is not None and field.kind in _FORMATS and field.count == 1:
            form = order + _FORMATS[field.kind]
            if number < 256 ** struct.calcsize(form):
                struct.pack_into(form, out, field.place, number)
    (at,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, at)
    if at + 2 + 12 * count + 4 <= len(block):
        struct.pack_into(order + "I", out, at + 2 + 12 * count, 0)  # the thumbnail's directory
    return bytes(out)


def rationals(field: Field | None, order: str) -> list[float]:
    """Returns the values of a field of rationals or whole numbers; [] for another, or a zero."""
    if field is None or not isinstance(field.data, bytes):
        return []
    if field.kind in _FORMATS:
        return [
            float(v)
            for v in struct.unpack(f"{order}{field.count}{_FORMATS[field.kind]}", field.data)
        ]
    if field.kind not in (5, 10):
        return []
    values = struct.unpack(f"{order}{2 * field.count}{'I' if field.kind == 5 else 'i'}", field.data)
    pairs = list(zip(values[::2], values[1::2]))
    return [a / b for a, b in pairs] if all(b for _, b in pairs) else []


def resolution_fields(dpi: tuple[float, float], order: str) -> dict[int, Field]:
    """Returns the three fields of a resolution in pixels per inch."""
    x, y = (struct.pack(order + "II", round(d * 1000), 1000) for d in dpi)
    unit = Field(3, 1, struct.pack(order + "H", 2))
    return {0x011A: Field(5, 1, x), 0x011B: Field(5, 1, y), 0x0128: unit}
