"""Between encoded bytes and uint8 RGB arrays: strict for `prepare`, fast for the loader."""

import io
import warnings

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from gen_jax.common import files, image_formats

# Parallelism is ours (threads of the loader, processes of prepare): OpenCV's own
# pool on top of it only makes the cores fight.
cv2.setNumThreads(0)
image_formats.register_plugins()

FORMATS = ("jpeg", "png", "webp")

BAD_MASK = "unusable mask"

# Formats that a record may hold as they came, with the modes that need no conversion.
_KEEPABLE = {"JPEG": ("RGB", "L"), "PNG": ("RGB", "L"), "WEBP": ("RGB",)}


class ImageError(ValueError):
    """An image that cannot be used; `reason` is a short name to count by."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def to_rgb(image: Image.Image, under: str = "white") -> Image.Image:
    """Converts any Pillow mode to RGB, 16 bits scaled to 8.

    Args:
      image: The image.
      under: Color that shows through what is transparent.
    """
    if image.mode in ("I;16", "I;16L", "I;16B", "I"):
        wide = np.asarray(image, dtype=np.int64)
        return Image.fromarray((np.clip(wide, 0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, under), rgba).convert("RGB")
    return image.convert("RGB")


def open_strict(data: bytes, under: str = "white") -> tuple[UInt8[np.ndarray, "h w 3"], bool]:
    """Decodes an image file in full, noticing any damage.

    Args:
      data: the whole file.
      under: As of `to_rgb`.

    Returns:
      pixels: upright (EXIF orientation applied) RGB.
      keepable: whether these very bytes may go into a record unchanged.

    Raises:
      ImageError: "corrupt", "truncated", "git-lfs pointer" or "too large to decode safely".
    """
    if not data:
        raise ImageError("truncated", "the file is empty")
    if files.is_lfs_pointer(data):
        raise ImageError("git-lfs pointer", "not the image: run `git lfs pull`")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF, big images, palettes
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                kind, mode = image.format, image.mode
                turned = image.getexif().get(0x0112, 1) not in (0, 1)
                animated = getattr(image, "n_frames", 1) > 1
                clear = _has_alpha(image)
                rgb = to_rgb(ImageOps.exif_transpose(image), under)
    except Image.DecompressionBombError as error:
        raise ImageError("too large to decode safely", str(error)) from None
    except UnidentifiedImageError:  # its text names an address in memory
        raise ImageError("corrupt", unknown_format(data)) from None
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        text = str(error).lower()
        short = any(word in text for word in ("truncat", "not enough", "end of", "incomplete"))
        raise ImageError("truncated" if short else "corrupt", str(error)[:120]) from None
    as_it_is = not (turned or animated or clear)
    keepable = as_it_is and mode in _KEEPABLE.get(kind or "", ())
    return np.asarray(rgb), keepable


def unknown_format(data: bytes) -> str:
    """Says what may be wrong with a file that Pillow does not take for an image."""
    ending = image_formats.ending_of_content(data[: image_formats.HEAD])
    advice = image_formats.problem(f"x{ending}") if ending else None
    if advice:
        return f"holds {ending[1:].upper()}, whatever its name says: {advice}"
    return "not an image, or of an unknown format"


def is_gray(data: bytes) -> bool:
    """Whether an image file that `open_strict` reads stores one channel, with or without alpha."""
    with Image.open(io.BytesIO(data)) as image:
        return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")


def resize_short_side(
    pixels: UInt8[np.ndarray, "h w 3"], short: int
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Lanczos with antialiasing so that the short side has `short` pixels (0: unchanged).

    Images that are already smaller are left as they are: enlarging adds no information.
    """
    height, width = pixels.shape[:2]
    if short <= 0 or min(height, width) <= short:
        return pixels
    scale = short / min(height, width)
    size = (max(short, round(width * scale)), max(short, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def encode(pixels: UInt8[np.ndarray, "h w 3"], kind: str, quality: int = 95) -> bytes:
    """Encodes RGB pixels; `kind` is one of FORMATS, `quality` (1..100) is for JPEG and WebP."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if kind == "jpeg":
        # 4:4:4 at high quality: halved chroma shows as colour bleeding in what a model learns
        subsampling = 0 if quality >= 90 else 2
        image.save(buffer, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
    elif kind == "webp":
        image.save(buffer, "WEBP", quality=quality, method=4)
    elif kind == "png":
        image.save(buffer, "PNG", compress_level=6)
    else:
        raise ValueError(f"unknown image format {kind!r}, expected one of {FORMATS}")
    return buffer.getvalue()


def decode_fast(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image of a record to RGB.

    Raises:
      ImageError: the bytes are no image.
    """
    if not data:
        raise ImageError("corrupt", "no image bytes")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ImageError("corrupt", str(error)[:120]) from None
    if pixels is None:
        raise ImageError("corrupt", "OpenCV cannot decode it")
    return pixels


def read_mask(data: bytes) -> UInt8[np.ndarray, "h w"]:
    """Decodes a label map in full: gray values, palette indices or bits, unchanged.

    Args:
      data: A whole file, PNG or another lossless format of one channel and at most 8 bits.

    Raises:
      ImageError: "unusable mask"; the detail says what is wrong.
    """
    if files.is_lfs_pointer(data):
        raise ImageError(BAD_MASK, "a git-lfs pointer, not the image: run `git lfs pull`")
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            kind, mode, values = image.format, image.mode, np.asarray(image)
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise ImageError(BAD_MASK, f"cannot be decoded ({str(error)[:80]})") from None
    if kind in ("JPEG", "MPO", "WEBP", "AVIF", "HEIF"):
        raise ImageError(BAD_MASK, f"{kind} changes the values of classes; save it as PNG")
    if mode not in ("1", "L", "P"):
        raise ImageError(
            BAD_MASK, f"mode {mode}: expected one channel of at most 8 bits (gray or palette)"
        )
    return values.astype(np.uint8)


def encode_mask(mask: UInt8[np.ndarray, "h w"]) -> bytes:
    """Encodes a label map as a gray PNG."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_mask(data: bytes) -> UInt8[np.ndarray, "h w"]:
    """Decodes the label map of a record; raises ImageError if it is damaged."""
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ImageError(BAD_MASK, "OpenCV cannot decode it")
    return mask


def resize_mask(mask: UInt8[np.ndarray, "h w"], height: int, width: int) -> np.ndarray:
    """Returns a label map of another size [height, width]: the class at each pixel's center."""
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(np.int64)
    return mask[rows[:, None], columns[None]]


def resize(pixels: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "s s 3"]:
    """To `size` x `size`, fast: area averaging when shrinking (antialiased), cubic when growing."""
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    shrink = min(height, width) >= size
    kind = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    return cv2.resize(pixels, (size, size), interpolation=kind)
