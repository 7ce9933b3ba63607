"""Photographs back into files, with all that the format can hold."""

import io
import pathlib

import cv2
import numpy as np
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data.photographs import Photograph

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Extension -> format that is written."""

_DEEP = ("PNG", "TIFF")


def format_of(path: pathlib.Path) -> str:
    """The format that a file name asks for.

    Raises:
      UserError: none that is written.
    """
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise UserError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    return found


def encode(photo: Photograph, kind: str, quality: int = 95) -> tuple[bytes, tuple[str, ...]]:
    """A file's bytes, and what had to be left out of it, a line each.

    Args:
      photo: what to write.
      kind: a value of `FORMATS`.
      quality: of JPEG (4:4:4) and WebP.
    """
    notes = []
    if photo.depth == 16 and kind not in _DEEP:
        notes.append(f"{kind} holds 8 bits a channel: rounded from 16")
        photo = photo.replace(
            pixels=_to_8_bits(photo.pixels),
            alpha=None if photo.alpha is None else _to_8_bits(photo.alpha),
        )
    if photo.alpha is not None and kind == "JPEG":
        notes.append("JPEG holds no transparency: laid on white")
        share = photo.alpha / np.float32(photo.top)
        mixed = photo.pixels * share + photo.top * (1.0 - share)
        photo = photo.replace(pixels=np.round(mixed).astype(photo.pixels.dtype), alpha=None)
    if photo.depth == 16 and (photo.pixels.shape[-1] == 3 or photo.alpha is not None):
        data = _deep_png(photo, notes) if kind == "PNG" else _deep_tiff(photo, notes)
    else:
        data = _by_pillow(photo, kind, quality)
    return data, tuple(notes)


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    return np.round(pixels / np.float32(257.0)).astype(np.uint8)


def _joined(photo: Photograph) -> np.ndarray:
    if photo.alpha is None:
        return photo.pixels
    return np.concatenate([photo.pixels, photo.alpha], axis=-1)


def _by_pillow(photo: Photograph, kind: str, quality: int) -> bytes:
    pixels = _joined(photo)
    mode = {2: "LA", 3: "RGB", 4: "RGBA"}.get(pixels.shape[-1])
    image = Image.fromarray(pixels[..., 0]) if mode is None else Image.fromarray(pixels, mode)
    options = {"icc_profile": photo.icc, "exif": photo.exif, "dpi": photo.dpi}
    options = {k: v for k, v in options.items() if v}
    if kind == "JPEG":
        options |= {"quality": quality, "subsampling": 0}
    elif kind == "WEBP":
        options |= {"quality": quality, "method": 4}
        image = image.convert({"L": "RGB", "LA": "RGBA"}.get(image.mode, image.mode))
    elif kind == "TIFF":
        options |= {"compression": "tiff_adobe_deflate"}
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _deep_png(photo: Photograph, notes: list[str]) -> bytes:
    pixels = _joined(photo)
    if pixels.shape[-1] == 2:
        notes.append("16-bit gray with transparency is written as RGB: no encoder here knows it")
        pixels = pixels[..., [0, 0, 0, 1]]
    pixels = np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]])
    facts = {"IMAGE_METADATA_ICCP": photo.icc, "IMAGE_METADATA_EXIF": _bare_exif(photo.exif)}
    kinds = [(getattr(cv2, k, None), v) for k, v in facts.items() if v]
    if kinds and hasattr(cv2, "imencodeWithMetadata") and all(k is not None for k, _ in kinds):
        values = [np.frombuffer(v, np.uint8) for _, v in kinds]
        ok, data = cv2.imencodeWithMetadata(".png", pixels, [k for k, _ in kinds], values)
    else:
        if kinds:
            notes.append("this OpenCV writes neither profile nor EXIF into 16-bit PNG: left out")
        ok, data = cv2.imencode(".png", pixels)
    if not ok:
        raise ValueError("OpenCV could not encode a 16-bit PNG")
    return data.tobytes()


def _bare_exif(exif: bytes | None) -> bytes | None:
    """Without the prefix of JPEG, which a PNG chunk does not have."""
    return exif.removeprefix(b"Exif\0\0") if exif else None


def _deep_tiff(photo: Photograph, notes: list[str]) -> bytes:
    import tifffile

    pixels, buffer = _joined(photo), io.BytesIO()
    if photo.exif:
        notes.append("EXIF is not written into 16-bit TIFF: left out")
    tifffile.imwrite(
        buffer,
        pixels[..., 0] if pixels.shape[-1] == 1 else pixels,
        photometric="rgb" if photo.pixels.shape[-1] == 3 else "minisblack",
        extrasamples=None if photo.alpha is None else ["unassalpha"],
        compression="zlib",
        iccprofile=photo.icc,
        metadata=None,
    )
    return buffer.getvalue()
