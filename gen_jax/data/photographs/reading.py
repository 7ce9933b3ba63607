"""Photographs as their owners have them: what a restorer must not lose on the way."""

import dataclasses
import io
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageCms, UnidentifiedImageError

from gen_jax.common import files
from gen_jax.common.image_formats import register_plugins
from gen_jax.data.images import ImageError, unknown_format
from gen_jax.data.photographs import jpeg_tables, photo_metadata, png_chunks, tiff
from gen_jax.data.photographs.photo_metadata import Metadata

Pixels = UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]
Alpha = UInt8[np.ndarray, "h w 1"] | UInt16[np.ndarray, "h w 1"]

MAX_PIXELS = 200_000_000
"""Files with more pixels are not opened, unless a caller sets another limit."""

_HEAD = 4096  # bytes
_GRAY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B")
_RGB = ("RGB", "RGBA", "P", "PA", "RGBa", "RGBX", "YCbCr", "LAB", "HSV")
_DEEP = ("I", "I;16", "I;16L", "I;16B")


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A decoded image and what came with it.

    Attributes:
      pixels: Upright; one channel if the file is gray, else RGB; 8 or 16 bits.
      alpha: Opacity, of the same depth, or None.
      metadata: What the file says beside the pixels.
      kind: Pillow's name of the file's format.
      lossless: Whether a WebP file was compressed without loss.
      frames: Number of frames or pages in the file, of which this is the first.
      jpeg_quality: Quality that a JPEG file was last saved at, 1 to 100; None for others.
      notes: What could not be read as it is, one phrase each.
    """

    pixels: Pixels
    alpha: Alpha | None = None
    metadata: Metadata = dataclasses.field(default_factory=Metadata)
    kind: str = "PNG"
    lossless: bool = False
    frames: int = 1
    notes: tuple[str, ...] = ()
    jpeg_quality: int | None = None

    @property
    def depth(self) -> int:
        """Bits per channel."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def top(self) -> int:
        """The value of white."""
        return 2**self.depth - 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def replace(self, **changes: Any) -> "Photograph":
        """Returns a copy with other fields."""
        return dataclasses.replace(self, **changes)


def check(path: pathlib.Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Looks at the beginning of a file, without decoding it.

    Args:
      path: The file.
      max_pixels: Files with more pixels are refused.

    Returns:
      Width and height as stored; (0, 0) if only `read` can tell.

    Raises:
      ImageError: The file is empty, no image or too large.
      OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    _check_head(head)
    register_plugins()
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            size = image.size
    except UnidentifiedImageError:
        if head[:4] in tiff.SIGNATURES:
            return (0, 0)
        raise ImageError("corrupt", unknown_format(head)) from None
    except Exception as error:
        raise ImageError("corrupt", " ".join(str(error).split())[:120]) from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    _check_size(*size, max_pixels)
    return size


def _check_head(data: bytes) -> None:
    if not data:
        raise ImageError("empty", "the file has no bytes; take it from its source again")
    if files.is_lfs_pointer(data):
        raise ImageError("git-lfs pointer", "not the image: run `git lfs pull`")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        detail = f"{width}x{height} pixels, at most {max_pixels} are read; cut it up"
        raise ImageError("too large", detail)


def read(data: bytes, max_pixels: int = MAX_PIXELS) -> Photograph:
    """Decodes a file in full.

    Args:
      data: The whole file.
      max_pixels: Files with more pixels are refused before they are decoded.

    Raises:
      ImageError: The file is empty, damaged, no image, of values that have no white, or too large.
    """
    _check_head(data)
    register_plugins()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF, and sizes that we judge ourselves
            return _read(data, max_pixels)
    except ImageError:
        raise
    except UnidentifiedImageError:  # its text names an address in memory
        if data[:4] in tiff.SIGNATURES:  # 16-bit gray with alpha, or CIELAB
            return _read_tiff(data, max_pixels)
        raise ImageError("corrupt", unknown_format(data)) from None
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise ImageError("corrupt", " ".join(str(error).split())[:120]) from None


def _read(data: bytes, max_pixels: int) -> Photograph:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_size(*image.size, max_pixels)
            if image.format == "TIFF" and tiff.is_needed(image.tag_v2):
                return _read_tiff(data, max_pixels)
            image.load()
            metadata, turn, notes = photo_metadata.of_image(image, data)
            notes, frames = [*notes, *_reduced(image, data)], getattr(image, "n_frames", 1)
            if _is_deep_png(data, image):
                pixels = _by_opencv(data)
            else:
                pixels, converted = _by_pillow(image, metadata.icc, notes)
                metadata = metadata.replace(icc=None) if converted else metadata
            kind = image.format or "PNG"
            is_jpeg = kind in ("JPEG", "MPO")
            quality = jpeg_tables.quality_of(image.quantization) if is_jpeg else None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    pixels = np.ascontiguousarray(_turned(pixels, turn))
    # An even number of channels has alpha as the last.
    colors, alpha = pixels, None
    if pixels.shape[-1] % 2 == 0:
        colors, alpha = pixels[..., :-1], pixels[..., -1:]
    lossless = kind == "WEBP" and b"VP8L" in _webp_chunks(data)
    return Photograph(colors, alpha, metadata, kind, lossless, frames, tuple(notes), quality)


def of_page(image: Image.Image) -> Photograph:
    """Returns the page of a TIFF file that Pillow has loaded, without metadata."""
    notes: list[str] = []
    pixels, _ = _by_pillow(image, image.info.get("icc_profile"), notes)
    pixels = np.ascontiguousarray(pixels)
    has_alpha = pixels.shape[-1] % 2 == 0
    alpha = pixels[..., -1:] if has_alpha else None
    return Photograph(
        pixels[..., :-1] if has_alpha else pixels, alpha, kind="TIFF", notes=tuple(notes)
    )


def _read_tiff(data: bytes, max_pixels: int) -> Photograph:
    page = tiff.read(data, max_pixels)
    metadata, turn, notes = photo_metadata.of_tiff(data)
    if page.is_converted:
        metadata = metadata.replace(icc=None)
    alpha = None if page.alpha is None else np.ascontiguousarray(_turned(page.alpha, turn))
    return Photograph(
        np.ascontiguousarray(_turned(page.pixels, turn)),
        alpha,
        metadata,
        kind="TIFF",
        frames=page.pages,
        notes=(*page.notes, *notes),
    )


def _reduced(image: Image.Image, data: bytes) -> list[str]:
    """Says what Pillow leaves out: channels, and bits beyond 8."""
    bits, notes = 8, []
    if (
        image.format == "JPEG2000"
        and image.mode not in _DEEP
        and (at := data.find(b"\xff\x51")) > 0
    ):
        bits = (data[at + 40] & 127) + 1  # of the first component, in the SIZ segment
    elif image.format in ("AVIF", "HEIF") and (at := data.find(b"av1C")) > 0:
        bits = {0: 8, 1: 10}.get(data[at + 6] >> 5 & 3, 12 if data[at + 6] & 32 else 10)
    elif image.format == "PPM" and image.mode not in _DEEP and data[:2] in (b"P3", b"P6"):
        bits = 16 if any(int(v) > 255 for v in data.split(None, 4)[3:4]) else 8
    elif image.format == "TIFF":
        bits = max(image.tag_v2.get(258, (8,))) if image.mode not in _DEEP else 8
        channels = len(image.getbands()) - (image.mode == "RGBX")
        if (more := image.tag_v2.get(277, 1) - channels) > 0 and image.mode != "P":
            notes.append(tiff.left_out(more))
    return [*notes, f"has {bits} bits per channel: read as 8"] if bits > 8 else notes


def _webp_chunks(data: bytes) -> Iterator[bytes]:
    """Yields the names of a WebP file's chunks; those of its first frame stand among them."""
    at = 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        yield name
        at += 24 if name == b"ANMF" else 8 + length + length % 2


def _is_deep_png(data: bytes, image: Image.Image) -> bool:
    """Whether this is a PNG of 16 bits, of which Pillow reads 8, or gray without transparency."""
    return image.format == "PNG" and data[24] == 16


def _by_opencv(data: bytes) -> np.ndarray:
    """Decodes a 16-bit PNG; alpha is the last of an even number of channels."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError("corrupt", "OpenCV cannot decode its 16 bits")
    color_type, key = data[25], dict(png_chunks.split(data)).get(b"tRNS")
    if color_type == 0:
        pixels = pixels.reshape(*pixels.shape[:2], 1)
        if key is None:
            return pixels
        clear = pixels == int.from_bytes(key[:2], "big")
        return np.concatenate([pixels, np.where(clear, 0, 65535).astype(np.uint16)], -1)
    if color_type == 4:  # gray and alpha comes as four channels
        return pixels[..., [0, 3]]
    return pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]]


def _by_pillow(image: Image.Image, icc: bytes | None, notes: list[str]) -> tuple[np.ndarray, bool]:
    """Returns pixels with alpha last, and whether their colors were converted to sRGB."""
    mode = image.mode
    has_alpha = mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info
    if mode in _DEEP:
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ImageError("unsupported", "32-bit values; convert it to 16 bits")
        return wide.astype(np.uint16)[..., None], False
    if mode == "F":
        raise ImageError("unsupported", "floating-point values; convert it to 16 bits")
    if mode == "CMYK":
        notes.append("was CMYK: the result is RGB")
        return np.asarray(_from_cmyk(image, icc)), True
    if mode in _GRAY:
        gray = np.asarray(image.convert("LA" if has_alpha else "L"))
        return gray.reshape(*image.size[::-1], -1), False
    if mode not in _RGB:
        raise ImageError("unsupported", f"mode {mode}; convert it to RGB")
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB")), mode == "LAB"


def _from_cmyk(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            target = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged profile is as good as none
    return image.convert("RGB")


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns pixels upright, by EXIF's number."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]
