"""TIFF pages that Pillow does not decode as they are: 16 bits, gray with alpha, CIELAB."""

import dataclasses
import io
import logging
import struct
from collections.abc import Sequence

import cv2
import numpy as np
import tifffile
from jaxtyping import Float, UInt8, UInt16
from PIL import TiffImagePlugin

from gen_jax.data.images import ImageError
from gen_jax.data.photographs import exif_blocks
from gen_jax.data.photographs.photo_metadata import STORAGE, Metadata

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
Pixels = UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]
Alpha = UInt8[np.ndarray, "h w 1"] | UInt16[np.ndarray, "h w 1"]

# Of a damaged file it logs many lines; ours is one.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_COLORS = {"MINISWHITE": 1, "MINISBLACK": 1, "RGB": 3, "CIELAB": 3, "ICCLAB": 3}
# From CIE XYZ under D50, which is what CIELAB in files refers to, to linear sRGB, whose white is
# D65: the inverse of the colorants in sRGB's ICC profile.
_XYZ_TO_SRGB = np.linalg.inv(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])


def is_needed(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    """Returns whether `read` is to decode a page instead of Pillow, by its tags.

    Raises:
      ImageError: The depth of its channels is one that neither reads as it is.
    """
    bits = set(tags.get(258, (1,)))
    if not bits <= {1, 2, 4, 8, 16, 32, 64}:
        raise ImageError("unsupported", f"{max(bits)} bits per channel; convert it to 16")
    return (16 in bits and tags.get(262) != 5) or tags.get(262) in (8, 9)  # 5 is CMYK


@dataclasses.dataclass(frozen=True)
class Page:
    """A decoded page.

    Attributes:
      pixels: One channel if it is gray, else RGB.
      alpha: Opacity, of the same depth, or None.
      is_converted: Whether the colors were converted to sRGB, which no stored profile describes.
      pages: Number of pages in the file.
      notes: What is left out, one phrase each.
    """

    pixels: Pixels
    alpha: Alpha | None
    is_converted: bool
    pages: int
    notes: tuple[str, ...]


def read(data: bytes, max_pixels: int, index: int = 0) -> Page:
    """Decodes one page of a file.

    Args:
      data: The whole file.
      max_pixels: Pages with more pixels are refused before they are decoded.
      index: Which page, from 0.

    Raises:
      ImageError: The file is damaged, too large, or of values that have no white.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page, pages = file.pages[index], len(file.pages)
            if page.imagewidth * page.imagelength > max_pixels:
                size = f"{page.imagewidth}x{page.imagelength}"
                raise ImageError(
                    "too large", f"{size} pixels, at most {max_pixels} are read; cut it up"
                )
            _check_complete(page, len(data))
            kind = getattr(page.photometric, "name", str(page.photometric))
            pixels = _decoded(page, data)
            extra = [int(e) for e in page.extrasamples]
    except ImageError:
        raise
    except Exception as error:  # of a damaged file, nearly anything
        raise ImageError("corrupt", " ".join(str(error).split())[:120]) from None
    colors = _COLORS.get(kind)
    if colors is None or pixels.ndim != 3 or pixels.shape[-1] < colors:
        raise ImageError("unsupported", f"{kind} {pixels.shape}; convert it to RGB")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError("unsupported", f"{pixels.dtype} values; convert it to 16 bits")
    pixels, others = pixels[..., :colors], pixels[..., colors:]
    top = np.iinfo(pixels.dtype).max
    alpha, notes = None, []
    if extra and extra[0] in (1, 2) and others.shape[-1]:  # associated or not
        alpha, others = others[..., :1], others[..., 1:]
        if extra[0] == 1:
            share = np.maximum(alpha, 1) / np.float32(top)
            pixels = np.round(np.minimum(pixels / share, top)).astype(pixels.dtype)
    if others.shape[-1]:
        notes.append(left_out(others.shape[-1]))
    if kind == "MINISWHITE":
        pixels = top - pixels
    in_lab = kind in ("CIELAB", "ICCLAB")
    if in_lab:
        notes.append("was CIELAB: the result is RGB")
        pixels = np.round(_srgb(_lab(pixels, kind)) * top).astype(pixels.dtype)
    return Page(pixels, alpha, in_lab, pages, tuple(notes))


def _check_complete(page: tifffile.TiffPage, size: int) -> None:
    """Refuses a page of which parts are missing: tifffile takes those for zeros."""
    ends = [at + length for at, length in zip(page.dataoffsets, page.databytecounts)]
    if len(page.dataoffsets) != len(page.databytecounts) or not ends or max(ends) > size:
        raise ImageError("corrupt", "the file ends before its pixels do")
    if min(page.databytecounts) == 0:
        raise ImageError("corrupt", "some of its pixels were never written")


def left_out(channels: int) -> str:
    """Returns the note on channels that are neither colors nor transparency."""
    return f"has {channels} more channels than colors: left out"


def _decoded(page: tifffile.TiffPage, data: bytes) -> np.ndarray:
    """Returns [h, w, c] as it is stored."""
    try:
        pixels = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        # A compression that tifffile leaves to another package and OpenCV's libtiff knows.
        pixels = None
        if page.photometric in (1, 2) and page.planarconfig == 1 and not page.extrasamples:
            one = (page.index, page.index + 1)
            _, decoded = cv2.imdecodemulti(
                np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED, range=one
            )
            pixels = decoded[0] if decoded else None
        if pixels is None:
            name = getattr(page.compression, "name", page.compression)
            raise ImageError("unsupported", f"{name} compression; save it with ZIP") from None
        pixels = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    if pixels.ndim == 3 and page.planarconfig == 2:
        pixels = np.moveaxis(pixels, 0, -1)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _lab(pixels: Pixels, kind: str) -> Float[np.ndarray, "h w 3"]:
    """Returns L in 0 to 100, a and b about -128 to 127."""
    deep = pixels.dtype == np.uint16
    if kind == "ICCLAB" and deep:
        raise ImageError("unsupported", "ICCLAB of 16 bits; convert it to RGB")
    lightness = pixels[..., :1] / np.float32(655.35 if deep else 2.55)
    if kind == "ICCLAB":
        ab = pixels[..., 1:].astype(np.float32) - 128.0
    else:
        signed = np.ascontiguousarray(pixels[..., 1:]).view(np.int16 if deep else np.int8)
        ab = signed / np.float32(256.0 if deep else 1.0)
    return np.concatenate([lightness, ab], -1)


def _srgb(lab: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Converts CIELAB under D50 to sRGB in [0, 1]."""
    y = (lab[..., 0] + 16.0) / 116.0
    f = np.stack([y + lab[..., 1] / 500.0, y, y - lab[..., 2] / 200.0], -1)
    xyz = _D50 * np.where(f > 6.0 / 29.0, f**3, 3.0 * (6.0 / 29.0) ** 2 * (f - 4.0 / 29.0))
    linear = np.clip(xyz @ _XYZ_TO_SRGB.T, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def encode(pixels: Pixels, metadata: Metadata) -> bytes:
    """Encodes pixels by ZIP, with all metadata that TIFF has a tag for.

    Args:
      pixels: 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGBA) channels.
      metadata: What to write beside them; its size is that of the pixels.

    Returns:
      The file.
    """
    order = "<" if metadata.exif is None else exif_blocks.order_of(metadata.exif)
    data = bytearray(_written([pixels], metadata, order))
    if metadata.exif is not None:
        _add_exif(data, metadata.exif)
    return bytes(data)


def encode_pages(pages: Sequence[np.ndarray], metadata: Metadata) -> bytes:
    """Encodes several pages by ZIP.

    Args:
      pages: Pixels of each page, as `encode` takes them.
      metadata: What to write beside the first page. EXIF is left out.

    Returns:
      The file.
    """
    return _written(pages, metadata, "<")


def _written(pages: Sequence[np.ndarray], metadata: Metadata, order: str) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=order) as file:
        for index, pixels in enumerate(pages):
            channels = pixels.shape[-1]
            blocks = ((700, metadata.xmp), (33723, metadata.iptc)) if index == 0 else ()
            file.write(
                pixels[..., 0] if channels == 1 else pixels,
                photometric="rgb" if channels > 2 else "minisblack",
                planarconfig=None if channels == 1 else "contig",
                extrasamples=None if channels % 2 else ["unassalpha"],
                compression="zlib",
                predictor=True,
                iccprofile=metadata.icc,
                resolution=metadata.dpi,
                resolutionunit="INCH" if metadata.dpi else None,
                metadata=None,
                software=False,
                contiguous=False,
                extratags=[(tag, 7, len(value), value, True) for tag, value in blocks if value],
            )
    return buffer.getvalue()


def _add_exif(data: bytearray, exif: bytes) -> None:
    """Adds EXIF's fields to a file of the same byte order; its directory moves to the end.

    tifffile writes no EXIF, and Pillow neither 16 bits in color nor gray with alpha.
    """
    order, directory = exif_blocks.order_of(exif), exif_blocks.parse(bytes(data))
    new = {k: v for k, v in exif_blocks.parse(exif).items() if k not in STORAGE}
    data += bytes(len(data) % 2)  # directories begin at even places
    struct.pack_into(order + "I", data, 4, len(data))
    # What the file says already, such as its resolution, comes first.
    data += exif_blocks.serialize({**new, **directory}, order, len(data))
