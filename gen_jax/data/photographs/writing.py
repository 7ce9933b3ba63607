"""Photographs back into files, with all that the format can hold, and read back."""

import io
import pathlib
import struct

import numpy as np
from PIL import Image, features

from gen_jax.common.errors import UserError
from gen_jax.data.images import ImageError
from gen_jax.data.photographs import photo_metadata, png_chunks, reading, tiff
from gen_jax.data.photographs.photo_metadata import Metadata
from gen_jax.data.photographs.reading import Photograph

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
"""Extension -> format that is written."""

_ANIMATED = {".gif": "GIF"}  # of animations only: a still image keeps its colors in PNG
_DEEP = ("PNG", "TIFF")
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 65_535, "GIF": 65_535}  # sides, in pixels
_SEGMENT = 65_533 - 35  # bytes that fit into one segment of a JPEG file, with its name
# How far lossy compression may take the mean of all values: false or inverted colors go further.
_MEAN_ERROR = 48.0 / 255.0


class NotWritten(ValueError):
    """A file does not hold what it was to hold."""


def format_of(path: pathlib.Path, is_animated: bool = False) -> str:
    """Returns the format that a file name asks for.

    Args:
      path: File to write.
      is_animated: Whether it is to hold an animation, which may be written as GIF.

    Raises:
      UserError: It is none that is written.
    """
    formats = {**FORMATS, **_ANIMATED} if is_animated else FORMATS
    kind = formats.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    Image.init()
    if kind not in Image.SAVE or (kind == "AVIF" and not features.check("avif")):
        raise UserError(f"{path}: this Pillow writes no {kind}; name another format")
    return kind


def check_size(size: tuple[int, int], kind: str) -> None:
    """Checks that a format holds images of a size.

    Args:
      size: Width and height.
      kind: A value of `FORMATS`.

    Raises:
      NotWritten: A side is too long.
    """
    if max(size) > _LONGEST.get(kind, 2**31 - 1):
        raise NotWritten(f"{kind} holds at most {_LONGEST[kind]} pixels per side; write PNG")


def encode(photo: Photograph, kind: str, quality: int = 95) -> tuple[bytes, tuple[str, ...]]:
    """Encodes a photograph, and decodes the bytes again to see that they hold it.

    Args:
      photo: The photograph to write.
      kind: A value of `FORMATS`.
      quality: Quality of JPEG and AVIF (4:4:4) and of lossy WebP, 1 to 100; WebP that was read
        without loss is written without loss.

    Returns:
      The file's bytes, and what they do not hold of `photo`, one phrase each.

    Raises:
      NotWritten: What was decoded again is not what was encoded.
    """
    metadata = photo_metadata.resized(photo.metadata, photo.size)
    photo, notes = reduced(photo.replace(metadata=metadata), kind)
    pixels = photo.pixels
    if photo.alpha is not None:
        pixels = np.concatenate([pixels, photo.alpha], axis=-1)
    if kind == "PNG":
        data = png_chunks.encode(pixels, _png_chunks(metadata, pixels.shape[-1]))
    elif kind == "TIFF":
        data = tiff.encode(pixels, metadata)
    else:
        data = _by_pillow(pixels, metadata, kind, quality, photo.lossless)
    lost = check(data, photo, kind)
    if lost:
        notes.append(f"{kind} does not keep {', '.join(lost)}")
    return data, tuple(notes)


def check(data: bytes, photo: Photograph, kind: str) -> list[str]:
    """Decodes a written file and compares it with what it was to hold.

    Args:
      data: The whole file.
      photo: What was written.
      kind: A value of `FORMATS`.

    Returns:
      Names of the metadata that the file does not hold.

    Raises:
      NotWritten: The file is damaged, or its format, size, channels or colors are others.
    """
    try:
        again = reading.read(data, max_pixels=photo.pixels.size)
    except ImageError as error:
        raise NotWritten(f"the {kind} file cannot be read back: {error}") from None
    compare(photo, again, kind, kind in _DEEP or (kind == "WEBP" and photo.lossless))
    return photo_metadata.lost(photo.metadata, again.metadata)


def compare(meant: Photograph, written: Photograph, kind: str, is_lossless: bool) -> None:
    """Compares the format, pixels and transparency of a written image with what was meant.

    Raises:
      NotWritten: They differ, beyond what lossy compression changes.
    """
    pairs = {"pixels": (meant.pixels, written.pixels)}
    if meant.alpha is not None or written.alpha is not None:
        pairs["transparency"] = (meant.alpha, written.alpha)
    for name, (first, second) in pairs.items():
        if written.kind != kind or not _same(first, second, is_lossless):
            raise NotWritten(f"the {kind} file has other {name} than were written")


def with_alpha(photo: Photograph, in_color: bool = False) -> np.ndarray:
    """Returns the pixels with the transparency as the last channel, if there is any.

    Args:
      photo: The photograph.
      in_color: Whether gray becomes RGB.
    """
    pixels = (
        photo.pixels.repeat(3, -1) if in_color and photo.pixels.shape[-1] == 1 else photo.pixels
    )
    if photo.alpha is not None:
        return np.concatenate([pixels, photo.alpha], axis=-1)
    return pixels


def _same(meant: np.ndarray | None, written: np.ndarray | None, is_lossless: bool) -> bool:
    if meant is None or written is None or meant.dtype != written.dtype:
        return False
    if meant.shape[-1] == 1 and written.shape[-1] == 3:  # WebP holds no gray
        meant = np.broadcast_to(meant, written.shape)
    if meant.shape != written.shape:
        return False
    if is_lossless:
        return np.array_equal(meant, written)
    error = np.abs(meant.mean((0, 1)) - written.mean((0, 1))).max()
    return bool(error <= _MEAN_ERROR * np.iinfo(meant.dtype).max)


def reduced(
    photo: Photograph, kind: str, is_animated: bool = False
) -> tuple[Photograph, list[str]]:
    """Returns what a format can hold of the pixels, and notes on what it cannot."""
    notes = []
    if photo.depth == 16 and (kind not in _DEEP or is_animated):
        notes.append(f"{kind} holds 8 bits per channel: rounded from 16")
        alpha = None if photo.alpha is None else _to_8_bits(photo.alpha)
        photo = photo.replace(pixels=_to_8_bits(photo.pixels), alpha=alpha)
    is_opaque = photo.alpha is not None and photo.alpha.min() == photo.top
    if kind in ("WEBP", "AVIF") and is_opaque and not is_animated:
        photo = photo.replace(alpha=None)  # their encoders leave out alpha that is opaque
    if photo.alpha is not None and kind == "JPEG":
        notes.append("JPEG holds no transparency: laid on white")
        opacity = photo.alpha / np.float32(photo.top)
        mixed = photo.pixels * opacity + photo.top * (1.0 - opacity)
        photo = photo.replace(pixels=np.round(mixed).astype(photo.pixels.dtype), alpha=None)
    return photo, notes


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    return np.round(pixels / np.float32(257.0)).astype(np.uint8)


def fitting_profile(icc: bytes | None, is_gray: bool) -> bytes | None:
    """Returns a profile that is of gray or of color as the image is, as PNG and WebP ask for."""
    return icc if icc and (icc[16:20] == b"GRAY") == is_gray else None


def _png_chunks(metadata: Metadata, channels: int) -> list[png_chunks.Chunk]:
    chunks = list(metadata.chunks)
    if icc := fitting_profile(metadata.icc, channels < 3):
        chunks.append(png_chunks.profile(icc))
    if metadata.dpi and not any(kind == b"pHYs" for kind, _ in chunks):
        chunks.append(png_chunks.resolution(metadata.dpi))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append(png_chunks.international_text("XML:com.adobe.xmp", metadata.xmp))
    if metadata.comment:
        chunks.append((b"tEXt", b"Comment\0" + metadata.comment.replace(b"\0", b"")))
    return chunks


def _by_pillow(
    pixels: np.ndarray, metadata: Metadata, kind: str, quality: int, lossless: bool
) -> bytes:
    """Encodes JPEG, WebP or AVIF."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    exif, xmp, icc = metadata.exif, metadata.xmp, metadata.icc
    if kind == "JPEG":
        options = {"quality": quality, "subsampling": 0, "comment": metadata.comment}
        options |= {"dpi": metadata.dpi, "extra": _iptc_segment(metadata.iptc)}
        exif = b"Exif\0\0" + exif if exif and len(exif) < _SEGMENT else None
        xmp = xmp if xmp and len(xmp) < _SEGMENT else None
    else:
        options = {"quality": quality, "subsampling": "4:4:4"}
        if kind == "WEBP":
            options = {"quality": quality, "method": 4, "lossless": lossless, "exact": lossless}
        icc = fitting_profile(icc, is_gray=False)
        if pixels.shape[-1] < 3:  # neither holds gray
            image = image.convert("RGB" if pixels.shape[-1] == 1 else "RGBA")
        exif = photo_metadata.exif_with_resolution(metadata)  # neither has another place for it
        exif = photo_metadata.without_orientation(exif) if kind == "AVIF" else exif
    options |= {"icc_profile": icc, "exif": exif, "xmp": xmp}
    buffer = io.BytesIO()
    image.save(buffer, kind, **{k: v for k, v in options.items() if v is not None})
    return buffer.getvalue()


def _iptc_segment(iptc: bytes | None) -> bytes | None:
    """Returns a JPEG segment (APP13) that holds an IPTC record as Photoshop does."""
    if not iptc or len(iptc) > _SEGMENT:
        return None
    resource = struct.pack(">4sH2xI", b"8BIM", 0x0404, len(iptc)) + iptc + bytes(len(iptc) % 2)
    body = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
