"""Photographs as their owners have them: what a restorer must not lose on the way."""

import dataclasses
import io
import warnings
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageCms, UnidentifiedImageError

from gen_jax.common import git_lfs
from gen_jax.data.images import ImageError, unknown_format

Pixels = UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]
Alpha = UInt8[np.ndarray, "h w 1"] | UInt16[np.ndarray, "h w 1"]

MAX_PIXELS = 200_000_000
"""Of a file that is opened at all, unless a caller says otherwise."""

_ORIENTATION = 0x0112  # the EXIF tag
_BITS = 258  # TIFF's tag of bits a channel
_TIFF = (b"II*\0", b"MM\0*")
_GRAY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B")


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A decoded picture and what came with it.

    Attributes:
      pixels: upright; one channel where the file is gray, else RGB; 8 or 16 bits.
      alpha: of the same depth, or None.
      icc: the colour profile, where it still fits the pixels.
      exif: with the orientation set upright.
      dpi: pixels an inch in both directions.
      kind: Pillow's name of the file's format.
      notes: what could not be kept, a line each.
    """

    pixels: Pixels
    alpha: Alpha | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    kind: str = "PNG"
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Bits a channel."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def top(self) -> int:
        """The value of white."""
        return 2**self.depth - 1

    def replace(self, **changes: Any) -> "Photograph":
        """A copy with other fields."""
        return dataclasses.replace(self, **changes)


def read(data: bytes, max_pixels: int = MAX_PIXELS) -> Photograph:
    """Decodes a file in full.

    Args:
      data: the whole file.
      max_pixels: more than this is refused before it is decoded.

    Raises:
      ImageError: empty, damaged, no image, a kind of values that has no white, or too large.
    """
    if not data:
        raise ImageError("empty", "the file has no bytes; take it from its source again")
    if git_lfs.is_pointer(data):
        raise ImageError("git-lfs pointer", "not the image: run `git lfs pull`")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF, and sizes that we judge ourselves
            return _read(data, max_pixels)
    except ImageError:
        raise
    except UnidentifiedImageError:  # its text names an address in memory
        if data[:4] in _TIFF:  # Pillow does not know 16-bit gray with alpha
            return _split(_by_tifffile(data, max_pixels), kind="TIFF")
        raise ImageError("corrupt", unknown_format(data)) from None
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise ImageError("corrupt", " ".join(str(error).split())[:120]) from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            "too large", f"{width}x{height} pixels, at most {max_pixels} are read; cut it up"
        )


def _read(data: bytes, max_pixels: int) -> Photograph:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_size(*image.size, max_pixels)
            image.load()
            notes = []
            if getattr(image, "n_frames", 1) > 1:
                notes.append(f"has {image.n_frames} frames: only the first is restored")
            turn = image.getexif().get(_ORIENTATION, 1)
            facts = {
                "icc": image.info.get("icc_profile") or None,
                "exif": _upright(image),
                "dpi": _dpi(image),
                "kind": image.format or "PNG",
            }
            if _is_deep_png(data, image):
                pixels = _by_opencv(data)
            elif image.format == "TIFF" and 16 in image.tag_v2.get(_BITS, ()):
                pixels = _by_tifffile(data, max_pixels)
            else:
                pixels, facts["icc"] = _by_pillow(image, facts["icc"], notes)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return _split(_turned(pixels, turn), notes=tuple(notes), **facts)


def _split(pixels: np.ndarray, **facts: Any) -> Photograph:
    """Colours and, of an even number of channels, the last as alpha."""
    pixels = np.ascontiguousarray(pixels)
    channels = pixels.shape[-1]
    if channels % 2:
        return Photograph(pixels, **facts)
    return Photograph(pixels[..., : channels - 1], pixels[..., -1:], **facts)


def _is_deep_png(data: bytes, image: Image.Image) -> bool:
    """Whether this is a PNG of 16 bits in colour or with alpha: Pillow hands out eight of them."""
    return image.format == "PNG" and data[24] == 16 and data[25] in (2, 4, 6)


def _by_opencv(data: bytes) -> np.ndarray:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise ImageError("corrupt", "OpenCV cannot decode its 16 bits")
    if found.ndim == 2:
        return found[..., None]
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}[found.shape[-1]]
    found = found[..., order]
    gray = data[25] == 4  # gray and alpha comes as four channels
    return found[..., [0, 3]] if gray else found


def _by_pillow(image: Image.Image, icc: bytes | None, notes: list[str]):
    """Pixels with alpha last, and the profile if it still fits them."""
    mode = image.mode
    clear = mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info
    if mode in ("I", "I;16", "I;16L", "I;16B"):
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ImageError("unsupported", "32-bit values; convert it to 16 bits")
        return wide.astype(np.uint16)[..., None], icc
    if mode == "F":
        raise ImageError("unsupported", "floating-point values; convert it to 16 bits")
    if mode == "CMYK":
        notes.append("was CMYK: the result is RGB")
        return np.asarray(_from_cmyk(image, icc)), None
    if mode in _GRAY:
        return np.asarray(image.convert("LA" if clear else "L")).reshape(*image.size[::-1], -1), icc
    if mode not in ("RGB", "RGBA", "P", "PA", "RGBa", "RGBX", "YCbCr", "LAB", "HSV"):
        raise ImageError("unsupported", f"mode {mode}; convert it to RGB")
    return np.asarray(image.convert("RGBA" if clear else "RGB")), icc


def _from_cmyk(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            target = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged profile is as good as none
    return image.convert("RGB")


def _by_tifffile(data: bytes, max_pixels: int) -> np.ndarray:
    """[h, w, c] of the first page, as it is stored; Pillow hands out 8 bits, or nothing."""
    import tifffile

    try:
        page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
        _check_size(page.imagewidth, page.imagelength, max_pixels)
        pixels = page.asarray()
    except ImageError:
        raise
    except Exception as error:  # of a damaged file, nearly anything
        raise ImageError("corrupt", " ".join(str(error).split())[:120]) from None
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 2, 3, 4):
        raise ImageError("unsupported", f"{pixels.dtype} {pixels.shape}; convert it to 16-bit RGB")
    return pixels


def _upright(image: Image.Image) -> bytes | None:
    exif = image.getexif()
    if not len(exif):
        return None
    exif[_ORIENTATION] = 1
    try:
        return exif.tobytes()
    except Exception:  # tags that Pillow read and cannot write
        return None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    if not dpi or len(dpi) != 2 or min(dpi) <= 0:
        return None
    return float(dpi[0]), float(dpi[1])


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Upright, by EXIF's number."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]
