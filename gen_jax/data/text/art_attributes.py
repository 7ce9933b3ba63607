"""What of a picture can be measured that adjectives speak of: light, colour, texture, order.

All are measured on the picture at 64x64 pixels, so that one number means the same at any size.
"""

from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import UInt8

from gen_jax.common import pixels
from gen_jax.common.color import BT601_LUMA
from gen_jax.data import images

SIDE = 64  # pixels that a picture is measured at
HUES = ("red", "orange", "yellow", "green", "blue", "purple")
_HUE_OF = np.digitize(np.arange(361), (15, 45, 70, 165, 260, 330)) % len(HUES)  # by degrees
_LUMA = np.float32(BT601_LUMA)
_BINS = 8  # of directions
_FLAT = 0.003  # root mean square gradient below which there is no shape to speak of
# What makes a picture lively, each over the spread that it has among abstract pictures.
_LIVELY = {"detail": 0.05, "contrast": 0.08, "colourfulness": 0.25}

NAMES = (
    "brightness", "contrast", "colourfulness", "warmth", "detail", "scale", "direction", "swirl",
    "symmetry", "order", "liveliness", *HUES,
)  # fmt: skip
"""Of the attributes; `measure` has a number for each."""


def measure(image: UInt8[np.ndarray, "h w 3"]) -> dict[str, float]:
    """Measures a picture, RGB.

    Returns:
      brightness: mean luma, 0 to 1.
      contrast: standard deviation of luma.
      colourfulness: of Hasler and Suesstrunk (Human Vision and Electronic Imaging, 2003), over 100.
      warmth: mean of red minus blue, -1 to 1.
      detail: mean magnitude of the gradient of luma, a pixel.
      scale: logarithm of the deviation of luma over the root mean square of its gradient: the size,
        in pixels, of what there is to see, whatever its contrast.
      direction: 1 where all edges are horizontal, -1 where all are vertical.
      swirl: how much more edges agree with their neighbours than with the whole picture.
      symmetry: correlation of luma with its mirror image, left-right or top-bottom.
      order: 1 where all edges have one direction, 0 where all directions are as frequent.
      liveliness: detail, contrast and colourfulness together.
      red ... purple: mean chroma of the pixels of this hue, 0 to 1.

    Of a picture as flat as an empty sheet scale, direction, swirl, symmetry and order are NaN.
    """
    small = pixels.to_unit(images.resize(image, SIDE))
    luma = small @ _LUMA
    values = {
        "brightness": luma.mean(),
        "contrast": luma.std(),
        "colourfulness": _colourfulness(small),
        "warmth": (small[..., 0] - small[..., 2]).mean(),
        **_shapes(luma),
        **_hues(small),
    }
    values["liveliness"] = sum(values[name] / spread for name, spread in _LIVELY.items())
    return {name: float(values[name]) for name in NAMES}


def as_vector(values: Mapping[str, float]) -> np.ndarray:
    """In the order of `NAMES`, float32."""
    return np.array([values[name] for name in NAMES], np.float32)


def _colourfulness(rgb):
    rg = rgb[..., 0] - rgb[..., 1]
    yb = 0.5 * (rgb[..., 0] + rgb[..., 1]) - rgb[..., 2]
    spread = np.hypot(rg.std(), yb.std())
    return 2.55 * (spread + 0.3 * np.hypot(rg.mean(), yb.mean()))


def _shapes(luma):
    gx = cv2.Scharr(luma, cv2.CV_32F, 1, 0, scale=1 / 32)
    gy = cv2.Scharr(luma, cv2.CV_32F, 0, 1, scale=1 / 32)
    xx, yy, xy = gx * gx, gy * gy, gx * gy
    energy = float((xx + yy).sum())
    detail = np.sqrt(xx + yy).mean()
    if energy < _FLAT**2 * luma.size:
        names = ("scale", "direction", "swirl", "symmetry", "order")
        return {"detail": detail} | dict.fromkeys(names, np.nan)
    # The structure tensor around each pixel, and of the whole.
    sx, sy, sxy = (cv2.GaussianBlur(v, (0, 0), 2.0) for v in (xx, yy, xy))
    near = np.sqrt((sx - sy) ** 2 + 4.0 * sxy**2).sum() / (sx + sy).sum()
    whole = np.hypot(xx.sum() - yy.sum(), 2.0 * xy.sum()) / energy
    angle = (np.arctan2(2.0 * xy, xx - yy) / (2.0 * np.pi)) % 1.0  # of directions, not of arrows
    place = np.minimum((angle * _BINS).astype(np.int32), _BINS - 1)
    weights = np.bincount(place.ravel(), (xx + yy).ravel(), _BINS)
    p = weights / weights.sum()
    entropy = -(p * np.log(np.maximum(p, 1e-9))).sum()
    return {
        "detail": detail,
        "scale": np.log(luma.std() / np.sqrt(energy / luma.size)),
        "direction": (yy.sum() - xx.sum()) / energy,
        "swirl": near - whole,
        "symmetry": max(_correlation(luma, luma[:, ::-1]), _correlation(luma, luma[::-1])),
        "order": 1.0 - entropy / np.log(_BINS),
    }


def _correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def _hues(rgb):
    hue, saturation, value = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))  # hue in degrees
    chroma = saturation * value
    place = _HUE_OF[hue.astype(np.int32)]
    sums = np.bincount(place.ravel(), chroma.ravel(), len(HUES))
    return dict(zip(HUES, sums / chroma.size, strict=True))
