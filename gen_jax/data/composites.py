"""Cut-outs (images with opacity) laid over photographs, with the pixels that they cover."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from gen_jax.data import images

Cutout = UInt8[np.ndarray, "_ _ 4"]
_OPAQUE = 128  # opacity from which a pixel belongs to the cut-out
_LEAST = 24  # opaque pixels that a placed cut-out must have


@dataclasses.dataclass(frozen=True)
class Poses:
    """How cut-outs are placed.

    Attributes:
      side: Range of the cut-out's longer side as a fraction of the image's side.
      turn: Largest rotation in degrees to either side.
      light: Largest relative change of the cut-out's brightness and of each color channel.
      outside: Largest part of the cut-out's side that may lie outside of the image.
    """

    side: tuple[float, float] = (0.3, 0.9)
    turn: float = 20.0
    light: float = 0.15
    outside: float = 0.15


POSES = Poses()


def trimmed(cutout: Cutout) -> Cutout:
    """Cuts off the transparent border; a cut-out without opaque pixels stays as it is."""
    rows, columns = (np.flatnonzero((cutout[..., 3] >= _OPAQUE).any(axis)) for axis in (1, 0))
    if not len(rows):
        return cutout
    return cutout[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def posed(cutout: Cutout, side: int, poses: Poses, rng: np.random.Generator) -> Cutout:
    """Scales a cut-out to a longer side of `side` pixels, turns, mirrors and lights it."""
    scale = side / max(cutout.shape[:2])
    height, width = (max(1, round(n * scale)) for n in cutout.shape[:2])
    # Premultiplied, or the colors of transparent pixels show at the edges.
    x = cutout.astype(np.float32)
    x[..., :3] *= x[..., 3:] / 255.0
    kind = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    x = cv2.resize(x, (width, height), interpolation=kind)
    # Room for the corners of the turned rectangle.
    reach = int(np.ceil(np.hypot(height, width)))
    middle = (width - 1) / 2, (height - 1) / 2
    matrix = cv2.getRotationMatrix2D(middle, rng.uniform(-poses.turn, poses.turn), 1.0)
    matrix[:, 2] += (reach - 1) / 2 - np.float64(middle)
    x = cv2.warpAffine(x, matrix, (reach, reach), flags=cv2.INTER_LINEAR)
    factors = 1.0 + poses.light * (rng.uniform(-1, 1) + 0.5 * rng.uniform(-1, 1, 3))
    colors = x[..., :3] * 255.0 / np.maximum(x[..., 3:], 1e-3) * factors
    x = np.dstack([np.clip(colors, 0, 255), x[..., 3]])
    if rng.random() < 0.5:
        x = x[:, ::-1]
    return trimmed(np.rint(x).astype(np.uint8))


def paste(
    image: UInt8[np.ndarray, "h w 3"], cutout: Cutout, top: int, left: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Lays a cut-out over an image.

    Args:
      image: The image, which is not changed.
      cutout: Parts of it outside of the image are cut off.
      top: Row of the cut-out's first row in the image, may be negative.
      left: Column of its first column.

    Returns:
      The composite, and the pixels that the cut-out covers: opacity of a half or more.
    """
    height, width = image.shape[:2]
    y0, x0 = max(0, top), max(0, left)
    y1 = max(y0, min(height, top + cutout.shape[0]))
    x1 = max(x0, min(width, left + cutout.shape[1]))
    part = cutout[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = part[..., 3:].astype(np.float32) / 255.0
    out, covered = image.copy(), np.zeros((height, width), bool)
    under = out[y0:y1, x0:x1]
    under[:] = np.rint(alpha * part[..., :3] + (1.0 - alpha) * under).astype(np.uint8)
    covered[y0:y1, x0:x1] = part[..., 3] >= _OPAQUE
    return out, covered


def lay(
    image: UInt8[np.ndarray, "h w 3"], cutout: Cutout, poses: Poses, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Lays a cut-out over an image at a random place, size and rotation, see `paste`."""
    height, width = image.shape[:2]
    side = max(2, round(min(height, width) * rng.uniform(*poses.side)))
    placed = posed(trimmed(cutout), side, poses, rng)
    room = [a - b for a, b in zip((height, width), placed.shape[:2])]
    spare = [poses.outside * s for s in placed.shape[:2]]
    top, left = (int(rng.integers(-int(s), max(0, r) + int(s) + 1)) for r, s in zip(room, spare))
    return paste(image, placed, top, left)


def random_square(
    photograph: UInt8[np.ndarray, "h w 3"], size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "size size 3"]:
    """Returns a random square of a photograph, four tenths of its short side or more, resized."""
    height, width = photograph.shape[:2]
    short = min(height, width)
    side = min(short, max(size, round(short * rng.uniform(0.4, 1.0))))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    square = photograph[top : top + side, left : left + side]
    return images.resize(np.ascontiguousarray(square), size)


def composite(
    photograph: UInt8[np.ndarray, "h w 3"],
    cutouts: list[Cutout],
    size: int,
    rng: np.random.Generator,
    poses: Poses = POSES,
) -> tuple[UInt8[np.ndarray, "size size 3"], Bool[np.ndarray, "size size"]]:
    """Lays cut-outs over a random square of a photograph.

    Args:
      photograph: The photograph.
      cutouts: What is laid over it, in this order.
      size: Side of the result in pixels.
      rng: Decides the square and the poses.
      poses: Ranges of the poses.

    Returns:
      The composite, and the pixels that cut-outs cover.
    """
    image = random_square(photograph, size, rng)
    covered = np.zeros((size, size), bool)
    for cutout in cutouts:
        for _ in range(4):  # thin drawings may vanish when they are shrunk
            made, mask = lay(image, cutout, poses, rng)
            if mask.sum() >= _LEAST:
                image, covered = made, covered | mask
                break
    return image, covered
