"""The degradation of an image: from a few of its parts, by hand, or one for several frames."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from gen_jax.data.degradations import PARAMETERS
from gen_jax.pipelines.tiles import Source

_PART, _PLACES = 192, 3
_GRID = 8  # pixels per side of a JPEG block
_APERTURE = 1.0 / math.sqrt(12.0)  # standard deviation of a pixel's area, in pixels
Part = Float[np.ndarray, "h w c"]


def parts(source: Source, size: tuple[int, int]) -> list[Part]:
    """Cuts up to nine parts of one shape out of an image.

    A smaller image is mirrored at its last row and column until it fills a part, from the last
    whole block of JPEG on, because the estimator looks for the edges of blocks.

    Args:
      source: Parts of the image.
      size: Height and width of the image.

    Returns:
      Parts of 192x192 pixels.
    """
    sides = [_PART if side >= _PART else max(side // _GRID * _GRID, 1) for side in size]
    sides = [whole if part < _GRID else part for whole, part in zip(size, sides)]
    places = [
        sorted({round(k / (_PLACES - 1) * max(0, whole - _PART)) for k in range(_PLACES)})
        for whole in size
    ]
    cut = [
        source(top, top + sides[0], left, left + sides[1])
        for top in places[0]
        for left in places[1]
    ]
    pads = [(0, _PART - side) for side in sides]
    return [np.pad(part, (*pads, (0, 0)), mode="symmetric") for part in cut]


def middle(estimates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the median of the estimates of several frames, name by name."""
    return {k: float(np.median([e[k] for e in estimates])) for k in estimates[0]}


def without_aperture(estimate: Mapping[str, float], scale: float | int = 0.0) -> dict[str, float]:
    """Takes the blur of sampling off the estimated blur.

    A pixel is the mean over its area, a blur of 1 / sqrt(12) of its side that every image has.
    Variances add up. To remove that blur would only sharpen the noise.

    Args:
      estimate: Name of `PARAMETERS` -> strength in its unit.
      scale: Binary logarithm of the factor that the image was enlarged by.
    """
    if "blur" not in estimate:
        return dict(estimate)
    square = estimate["blur"] ** 2 - (2.0**scale * _APERTURE) ** 2
    return {**estimate, "blur": math.sqrt(max(0.0, square))}


def with_given(
    estimate: Mapping[str, float], given: Mapping[str, float], seen: Sequence[Part]
) -> dict[str, float]:
    """Replaces estimated strengths by given ones.

    A network's gate depends on the distance from the clean image. What a given strength changes of
    it is computed: noise adds its variance, blur what it changes of the image itself, and JPEG what
    it changes of photographs on average.

    Args:
      estimate: Name of `PARAMETERS` -> strength in its unit.
      given: The same of what is known better. Given noise stands for all noise.
      seen: Parts of the image.
    """
    out = {**estimate, **given}
    if "sigma" in given and "shot" in estimate and "shot" not in given:
        out["shot"] = 0.0
    if "error" not in estimate or "error" in given:
        return out
    square, least = estimate["error"] ** 2, 0.0
    for name in ("sigma", "shot", "blur", "jpeg"):
        if out[name] != estimate[name]:
            added = _square(name, out[name], seen)
            square += added - _square(name, estimate[name], seen)
            least += added
    out["error"] = math.sqrt(max(least, square))
    return {name: out[name] for name in PARAMETERS if name in out}


def _square(name: str, strength: float, seen: Sequence[Part]) -> float:
    """Returns the mean squared error in 8-bit units that a degradation adds to an image."""
    if strength <= 0.0:
        return 0.0
    if name == "sigma":
        return strength**2
    if name == "shot":  # its variance is proportional to the brightness
        return strength**2 * float(np.mean([np.clip(part, 0, 1).mean() for part in seen]))
    if name == "jpeg":
        # Compressing again shows nothing, because it changes little. This fits what four
        # photographs lose at qualities of 5 to 95, by libjpeg's factor of the tables.
        quality = min(max(100.0 - strength, 1.0), 100.0)
        factor = 5000.0 / quality if quality < 50.0 else 200.0 - 2.0 * quality
        return (1.55 * factor**0.32) ** 2
    errors = [part - gaussian_filter(part, (strength, strength, 0)) for part in seen]
    return float(np.mean(np.square(errors))) * 255.0**2
