"""Which images are unfit: damaged, too small, blank, or there already.

Looking at one image is independent of all others (`examine`, in parallel);
comparing them is one pass in a fixed order (`find_duplicates`), so that the
verdicts do not depend on the number of workers.
"""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gen_jax.common import left_out
from gen_jax.data.images import BAD_MASK, ImageError

TOO_SMALL, BLANK = "too small", "blank"
DUPLICATE, NEAR_DUPLICATE = "exact duplicate", "near duplicate"
UNUSABLE = "further crops of an unusable picture"
CAPTION = "rejected caption"

CHOICES = (TOO_SMALL, BLANK, DUPLICATE, NEAR_DUPLICATE, UNUSABLE, CAPTION)

# What counts as damaged, for --max_bad: the rest is a choice, not an accident.
DAMAGED = (
    "corrupt",
    "truncated",
    "git-lfs pointer",
    "too large to decode safely",
    "missing",
    BAD_MASK,
    left_out.BROKEN_LINK,
    left_out.CLOSED,
)

_MIN_SIDE = 16  # pixels
_BLANK_STD = 1.0  # of 255 levels
_THUMB = 8

# Perceptual hashes of 64 bits in 4 bands of 16: two that differ in at most 3 bits
# agree in a whole band, so only images that share a band need comparing.
_BANDS, _MAX_BITS = 4, 3
# Thumbnails must agree in every block too: playing cards of two suits, or an icon in two
# colours, hash alike; a photograph that was scaled or compressed again differs by 2 to 8.
_MAX_THUMB = 14  # largest absolute difference, of 255 levels
# Comparisons for one image in one band: bounds the work where thousands hash alike.
_MAX_CANDIDATES = 256


@dataclasses.dataclass(frozen=True)
class Look:
    """What `examine` found.

    Attributes:
      sha256: of the decoded pixels and their shape.
      phash: 64-bit perceptual hash, or None where near duplicates are allowed.
      thumb: 8x8 RGB thumbnail as 192 bytes, or None likewise.
    """

    sha256: str
    phash: int | None = None
    thumb: bytes | None = None


def pixel_digest(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """Hex SHA-256 of an image as such, whatever file format it came in."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def check_mask(mask: np.ndarray | None, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
    """Raises ImageError if an image has a label map of another size."""
    if mask is not None and mask.shape != pixels.shape[:2]:
        sizes = [f"{width}x{height}" for height, width in (mask.shape, pixels.shape[:2])]
        raise ImageError(BAD_MASK, f"is {sizes[0]}, and its image is {sizes[1]} (upright)")


def examine(
    pixels: UInt8[np.ndarray, "h w 3"], *, min_side: int = _MIN_SIDE, near: bool = True
) -> Look:
    """Looks at one decoded image.

    Args:
      pixels: the image.
      min_side: shortest acceptable side in pixels.
      near: whether to compute what near duplicates are found by.

    Raises:
      ImageError: it is too small or blank.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < min_side:
        raise ImageError(TOO_SMALL, f"{width}x{height}, the least is {min_side}")
    # A quarter of the pixels first: only where they are flat does a thin drawing need them all.
    if all(float(p.std(axis=(0, 1)).max()) < _BLANK_STD for p in (pixels[::2, ::2], pixels)):
        raise ImageError(BLANK, "one flat colour")
    sha256 = pixel_digest(pixels)
    if not near:
        return Look(sha256)
    import imagehash  # here, because it brings in scipy and is only wanted for this

    small = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BOX, reducing_gap=2.0)
    bits = np.asarray(imagehash.phash(small).hash).ravel()
    phash = int.from_bytes(np.packbits(bits).tobytes(), "big")
    thumb = small.resize((_THUMB, _THUMB), Image.Resampling.BOX).tobytes()
    return Look(sha256, phash, thumb)


def find_duplicates(looks: Sequence[Look | None]) -> dict[int, tuple[int, str]]:
    """Finds images that repeat an earlier one.

    Args:
      looks: in the order of the source; None for those rejected already.

    Returns:
      index -> (index of the one that is kept, DUPLICATE or NEAR_DUPLICATE).
    """
    first_of: dict[str, int] = {}
    index = _NearIndex(len(looks))
    found: dict[int, tuple[int, str]] = {}
    for number, look in enumerate(looks):
        if look is None:
            continue
        if look.sha256 in first_of:
            found[number] = (first_of[look.sha256], DUPLICATE)
            continue
        first_of[look.sha256] = number
        if look.phash is None:
            continue
        twin = index.nearest(look)
        if twin is None:
            index.add(number, look)
        else:
            found[number] = (twin, NEAR_DUPLICATE)
    return found


class _NearIndex:
    """Images by the bands of their perceptual hashes."""

    def __init__(self, size: int):
        self._hashes = np.zeros(size, np.uint64)
        self._thumbs = np.zeros((size, _THUMB * _THUMB * 3), np.uint8)
        self._buckets: list[dict[int, list[int]]] = [defaultdict(list) for _ in range(_BANDS)]

    @staticmethod
    def _bands(phash: int) -> list[int]:
        return [(phash >> (16 * band)) & 0xFFFF for band in range(_BANDS)]

    def add(self, number: int, look: Look) -> None:
        self._hashes[number] = look.phash
        self._thumbs[number] = np.frombuffer(look.thumb, np.uint8)
        for bucket, band in zip(self._buckets, self._bands(look.phash), strict=True):
            bucket[band].append(number)

    def nearest(self, look: Look) -> int | None:
        """The earliest image that `look` nearly repeats."""
        near: set[int] = set()
        for bucket, band in zip(self._buckets, self._bands(look.phash), strict=True):
            near.update(bucket.get(band, ())[-_MAX_CANDIDATES:])
        if not near:
            return None
        numbers = np.fromiter(near, np.int64, len(near))
        bits = np.bitwise_count(self._hashes[numbers] ^ np.uint64(look.phash))
        numbers = np.sort(numbers[bits <= _MAX_BITS])
        thumb = np.frombuffer(look.thumb, np.uint8).astype(np.int16)
        away = np.abs(self._thumbs[numbers] - thumb).max(axis=1)
        alike = numbers[away <= _MAX_THUMB]
        return int(alike[0]) if alike.size else None
