"""What a file says of its photograph beside the pixels: profile, EXIF, XMP, IPTC, text, resolution.

EXIF, XMP and IPTC stay blocks of bytes. Only what the pixels contradict is changed in them:
orientation and size. Tags that say how a TIFF file stores its pixels belong to that file alone.
"""

import dataclasses
import re
import struct
from typing import Any

from PIL import Image

from gen_jax.data.photographs import exif_blocks, png_chunks
from gen_jax.data.photographs.png_chunks import Chunk

ORIENTATION = 0x0112
XMP, IPTC, ICC = 0x02BC, 0x83BB, 0x8773  # TIFF's tags
_PHOTOSHOP = (0x8649, 0x935C)  # resources, layers
_RESOLUTION = (0x011A, 0x011B, 0x0128)  # in x, in y, unit
_IPTC_RESOURCE = 0x0404  # of a JPEG file's Photoshop segment
# How a TIFF file stores its pixels, and what `Metadata` has an attribute for.
STORAGE = {
    *(XMP, IPTC, ICC, *_PHOTOSHOP, 273, 284, 297, 301, 559, *range(254, 267), *range(277, 282)),
    *(*range(286, 294), *range(317, 331), *range(332, 348), *range(512, 522), *range(529, 533)),
    *range(50706, 51200),  # DNG's and ImageJ's
}
_PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_PNG_KEPT = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_PNG_XMP, _PNG_EXIF = "XML:com.adobe.xmp", "Raw profile type exif"
# What decoding uses up, or what describes the values that a restoration replaces.
_PNG_USED = (
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sBIT", b"hIST", b"tIME"),
    *(b"iCCP", b"eXIf", b"pHYs", b"acTL", b"fcTL", b"fdAT"),
)
_NAMES = {b"gAMA": "gamma", b"cHRM": "chromaticities"}
# What every reader assumes of a file that says nothing of its colors.
_SRGB = (
    (b"gAMA", struct.pack(">I", 45455)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
)


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What came with the pixels.

    Attributes:
      icc: Color profile, as long as it still fits the pixels.
      exif: EXIF without the prefix of JPEG; upright.
      xmp: XMP packet.
      iptc: IPTC-NAA record.
      comment: Comment of a JPEG or GIF file.
      dpi: Pixels per inch in x and y.
      chunks: PNG chunks of text and color.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comment: bytes | None = None
    dpi: tuple[float, float] | None = None
    chunks: tuple[Chunk, ...] = ()

    def replace(self, **changes: Any) -> "Metadata":
        """Returns a copy with other fields."""
        return dataclasses.replace(self, **changes)


def of_image(image: Image.Image, data: bytes) -> tuple[Metadata, int, list[str]]:
    """Collects the metadata of a file that Pillow has loaded.

    Args:
      image: The loaded image.
      data: The whole file.

    Returns:
      The metadata, the EXIF orientation (1 to 8) that the pixels still need, and notes on what is
      left out.
    """
    if image.format == "TIFF":
        metadata, _, notes = of_tiff(data)
        return metadata, image.getexif().get(ORIENTATION, 1), notes  # Pillow turns TIFF as it loads
    info, notes = image.info, []
    chunks: tuple[Chunk, ...] = ()
    if image.format == "PNG":
        chunks, notes = _png(data)
    exif = _bytes(info.get("exif"))
    if exif is None and _PNG_EXIF in info:
        exif = bytes.fromhex("".join(info[_PNG_EXIF].split("\n")[3:]))
    exif, dpi, damage = _upright(exif)
    iptc = (info.get("photoshop") or {}).get(_IPTC_RESOURCE) if image.format == "JPEG" else None
    metadata = Metadata(
        icc=_bytes(info.get("icc_profile")),
        exif=exif,
        xmp=_upright_xmp(info.get("xmp")),
        iptc=_bytes(iptc),
        comment=_bytes(info.get("comment")),
        dpi=_checked(info.get("dpi")) or dpi,
        chunks=chunks,
    )
    return metadata, image.getexif().get(ORIENTATION, 1), notes + damage


def of_tiff(data: bytes) -> tuple[Metadata, int, list[str]]:
    """Collects the metadata of a TIFF file's first page; returns what `of_image` does."""
    try:
        order, directory = exif_blocks.order_of(data), exif_blocks.parse(data)
    except ValueError:
        return (
            Metadata(),
            1,
            ["not kept: all metadata and the orientation, which cannot be read"],
        )
    notes = ["not kept: Photoshop resources"] if any(t in directory for t in _PHOTOSHOP) else []
    kept = {k: v for k, v in directory.items() if k not in STORAGE}
    exif = None
    if not set(kept) <= {ORIENTATION, *_RESOLUTION}:
        exif = exif_blocks.with_numbers(exif_blocks.block_of(kept, order), {(0, ORIENTATION): 1})
    icc, xmp, iptc = (_field(directory, tag) for tag in (ICC, XMP, IPTC))
    metadata = Metadata(icc, exif, _upright_xmp(xmp), iptc, dpi=_dpi(directory, order))
    turn = exif_blocks.rationals(directory.get(ORIENTATION), order)
    return metadata, int(turn[0]) if turn else 1, notes


def resized(metadata: Metadata, size: tuple[int, int]) -> Metadata:
    """Returns metadata whose EXIF and XMP name another size, if they name one.

    Args:
      metadata: Metadata of the photograph.
      size: Width and height.
    """
    exif, xmp = metadata.exif, metadata.xmp
    if exif is not None:
        tags = {(exif_blocks.EXIF, 0xA002): size[0], (exif_blocks.EXIF, 0xA003): size[1]}
        exif = exif_blocks.with_numbers(exif, tags)
    xmp = _xmp_number(xmp, "tiff:ImageWidth|exif:PixelXDimension", size[0])
    xmp = _xmp_number(xmp, "tiff:ImageLength|exif:PixelYDimension", size[1])
    return metadata.replace(exif=exif, xmp=xmp)


def exif_with_resolution(metadata: Metadata) -> bytes | None:
    """Returns EXIF that also holds the resolution, for formats that have no other place for it."""
    exif, dpi = metadata.exif, metadata.dpi
    if dpi is None:
        return exif
    order = "<" if exif is None else exif_blocks.order_of(exif)
    directory = {} if exif is None else exif_blocks.parse(exif)
    there = _dpi(directory, order)
    if there and _near(dpi, there):
        return exif
    return exif_blocks.block_of(directory | exif_blocks.resolution_fields(dpi, order), order)


def without_orientation(exif: bytes | None) -> bytes | None:
    """Returns EXIF without its orientation: a writer that finds one would encode EXIF again."""
    if exif is None:
        return None
    directory = {k: v for k, v in exif_blocks.parse(exif).items() if k != ORIENTATION}
    return exif_blocks.block_of(directory, exif_blocks.order_of(exif)) if directory else None


def lost(meant: Metadata, written: Metadata) -> list[str]:
    """Names what a file holds no more, by comparing it with what was to be written.

    Args:
      meant: Metadata of the photograph.
      written: Metadata of the file that was read back.
    """
    blocks = (("color profile", "icc"), ("XMP", "xmp"), ("IPTC", "iptc"))
    names = [n for n, key in blocks if getattr(meant, key) not in (None, getattr(written, key))]
    before, after = _exif_values(meant.exif), _exif_values(written.exif)
    if gone := [tag for tag in before if before[tag] != after.get(tag)]:
        tags = ", ".join(f"{tag:#06x}" for _, tag in gone[:8])
        names.append("EXIF" if len(gone) == len(before) else f"EXIF tags {tags}")
    texts = [data for kind, data in written.chunks if kind in _PNG_TEXT]
    comments = (None, written.comment)
    if meant.comment not in comments and not any(meant.comment in text for text in texts):
        names.append("comment")
    if meant.dpi and not (written.dpi and _near(meant.dpi, written.dpi)):
        names.append("resolution")
    for chunk in meant.chunks:
        if chunk in written.chunks or chunk[0] == b"sRGB" or chunk in _SRGB:
            continue
        is_text = chunk[0] in _PNG_TEXT
        name = f"PNG text {png_chunks.keyword(chunk)!r}" if is_text else chunk[0].decode()
        names.append(_NAMES.get(chunk[0], name))
    return names


def _png(data: bytes) -> tuple[tuple[Chunk, ...], list[str]]:
    kept, others = [], []
    for kind, value in png_chunks.split(data):
        if kind in _PNG_TEXT:
            # These two are read as XMP and EXIF.
            if png_chunks.keyword((kind, value)) not in (_PNG_XMP, _PNG_EXIF):
                kept.append((kind, value))
        elif kind in _PNG_KEPT or (kind == b"pHYs" and value[8:] == b"\0"):  # an aspect ratio
            kept.append((kind, value))
        elif kind not in _PNG_USED:
            others.append(kind.decode("latin-1"))
    names = ", ".join(dict.fromkeys(others))
    return tuple(kept), [f"not kept: PNG chunks {names}"] if names else []


def _upright(exif: bytes | None) -> tuple[bytes | None, tuple[float, float] | None, list[str]]:
    """Returns EXIF with the orientation set to 1, its resolution, and notes."""
    if exif is None:
        return None, None, []
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        dpi = _dpi(exif_blocks.parse(exif), exif_blocks.order_of(exif))
        return exif_blocks.with_numbers(exif, {(0, ORIENTATION): 1}), dpi, []
    except ValueError:
        return None, None, ["not kept: EXIF, which is damaged"]


def _exif_values(exif: bytes | None) -> dict[tuple[int, int], Any]:
    """Returns (directory, tag) -> stored values, without those of storage and resolution."""
    if exif is None:
        return {}
    fields = exif_blocks.flat(exif_blocks.parse(exif)).items()
    ignored = {*STORAGE, *_RESOLUTION, ORIENTATION}  # images are upright
    return {k: v.data for k, v in fields if k[1] not in ignored}


def _dpi(directory: exif_blocks.Directory, order: str) -> tuple[float, float] | None:
    x, y, unit = (exif_blocks.rationals(directory.get(tag), order) for tag in _RESOLUTION)
    factor = {2.0: 1.0, 3.0: 2.54}.get(unit[0] if unit else 2.0)  # inches, centimeters
    return _checked((x[0] * factor, y[0] * factor)) if x and y and factor else None


def _checked(dpi: Any) -> tuple[float, float] | None:
    """Returns a resolution that every format can hold, or None."""
    try:
        x, y = (float(v) for v in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if min(x, y) >= 0.01 and max(x, y) < 60_000 else None  # neither is NaN


def _near(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Returns whether two resolutions agree to the whole number that JPEG stores."""
    return all(abs(a - b) <= max(0.51, 0.001 * a) for a, b in zip(first, second))


def _field(directory: exif_blocks.Directory, tag: int) -> bytes | None:
    field = directory.get(tag)
    return field.data or None if field is not None and isinstance(field.data, bytes) else None


def _upright_xmp(xmp: Any) -> bytes | None:
    return _xmp_number(_bytes(xmp), "tiff:Orientation", 1)


def _xmp_number(xmp: bytes | None, names: str, value: int) -> bytes | None:
    """Replaces the number of a property that is there, as an attribute or an element."""
    if not xmp:
        return None
    pattern = rf"((?:{names})(?:=[\"']|>)\s*)\d+".encode()
    return re.sub(pattern, rb"\g<1>" + str(value).encode(), xmp)


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return value if isinstance(value, bytes) and value else None
