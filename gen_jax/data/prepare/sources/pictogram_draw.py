"""Draws scenes of pictograms: the atlas of the package, in other colors, on a background."""

import functools

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data import pictogram_atlas
from gen_jax.data.pictogram_atlas import ATLAS, COLUMNS, SIDE
from gen_jax.data.prepare.sources import pictogram_scene
from gen_jax.data.prepare.sources.pictogram_scene import BACKGROUNDS, COLORS, SUBJECTS, Scene

_BAND = 42.0  # degrees around the main hue that change with it
_GRAY = 0.22  # saturation below which a pixel has no hue
_LEAST_SHARE = 0.45  # of the pixels must have a hue, or the pictogram counts as gray


def _own(subject: str) -> UInt8[np.ndarray, "s s 4"]:
    return pictogram_atlas.pictogram(list(SUBJECTS).index(subject))


def _main_part(hsv: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Returns how far each pixel has the pictogram's main color, `[s, s]` in 0 to 1."""
    hue, saturation, value = hsv
    colorful = alpha * (saturation > _GRAY) * (value > 0.25)
    if colorful.sum() < _LEAST_SHARE * alpha.sum():
        # Grays and white, less what is nearly black: eyes and outlines stay.
        return (saturation <= _GRAY) * np.clip((value - 0.3) / 0.1, 0, 1)
    counts, edges = np.histogram(hue, 36, (0, 360), weights=colorful * saturation * value)
    smooth = counts + 0.7 * (np.roll(counts, 1) + np.roll(counts, -1))
    main = edges[smooth.argmax()] + 5.0
    away = np.abs((hue - main + 180) % 360 - 180)
    return (saturation > 0.12) * np.clip((_BAND - away) / 8.0, 0, 1)


@functools.lru_cache(maxsize=len(SUBJECTS) * (len(COLORS) + 1))
def pictogram(subject: str, color: str | None) -> UInt8[np.ndarray, "s s 4"]:
    """Returns a pictogram, RGBA, its main color replaced by another one.

    The main color is the most frequent hue and its neighbors, or the grays of a pictogram without
    one. Its pixels keep their ratio of saturation and value to the mean, so shading remains.

    Args:
      subject: One of SUBJECTS.
      color: One of COLORS, or None for the pictogram as it is.
    """
    own = _own(subject)
    if color is None:
        return own
    rgb, alpha = own[..., :3] / 255.0, own[..., 3] / 255.0
    hue, saturation, value = hsv = to_hsv(rgb)
    part = _main_part(hsv, alpha)
    weight = part * alpha
    new_hue, new_saturation, new_value = COLORS[color]

    def moved(channel, target):
        mean = (channel * weight).sum() / weight.sum()
        # Gray parts have no saturation to scale.
        ratio = channel / mean if mean > _GRAY else np.ones_like(channel)
        return np.clip(target * ratio, 0.0, 1.0)

    painted = _to_rgb(
        np.full_like(hue, new_hue), moved(saturation, new_saturation), moved(value, new_value)
    )
    mixed = part[..., None] * painted + (1 - part[..., None]) * rgb
    return np.dstack([np.rint(mixed * 255).astype(np.uint8), own[..., 3]])


def to_hsv(rgb: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "3 ..."]:
    """Returns hue in degrees, saturation and value of colors in 0 to 1."""
    high, low = rgb.max(-1), rgb.min(-1)
    spread = np.maximum(high - low, 1e-9)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    sector = np.select(
        [high == red, high == green],
        [(green - blue) / spread, 2 + (blue - red) / spread],
        4 + (red - green) / spread,
    )
    return np.stack([(60 * sector) % 360, (high - low) / np.maximum(high, 1e-9), high])


def _to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    k = (np.array([5.0, 3.0, 1.0]) + hue[..., None] / 60) % 6
    fall = np.clip(np.minimum(k, 4 - k), 0, 1)
    return value[..., None] * (1 - saturation[..., None] * fall)


@functools.lru_cache(maxsize=8192)
def _scaled(subject: str, color: str | None, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a pictogram of `side` pixels: color times alpha, and 1 - alpha."""
    image = Image.fromarray(pictogram(subject, color))
    rgba = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS), np.float32)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha, 1 - alpha


def draw(scene: Scene, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Draws a scene.

    Args:
      scene: See `pictogram_scene`.
      size: Side of the image in pixels.
    """
    side = max(1, round(scene["side"] * size))
    left, top = (min(round(scene[name] * size), size - side) for name in ("left", "top"))
    image = np.empty((size, size, 3), np.float32)
    image[:] = BACKGROUNDS[scene["background"]]
    ink, transparency = _scaled(scene["subject"], scene["color"], side)
    square = image[top : top + side, left : left + side]
    square[:] = square * transparency + ink
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def check_names() -> None:
    """Raises UserError if the atlas does not hold as many pictograms as there are names."""
    rows = -(-len(pictogram_scene.SUBJECTS) // COLUMNS)
    if pictogram_atlas.whole().shape[:2] != (rows * SIDE, COLUMNS * SIDE):
        raise UserError(f"pictograms: {ATLAS} belongs to another version; install gen_jax again")
