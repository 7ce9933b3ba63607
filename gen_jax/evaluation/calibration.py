"""Calibration of error maps: which pixels can be trusted, and how wide intervals must be."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gen_jax.common.errors import UserError
from gen_jax.data import degradations
from gen_jax.data.degradations.base import from_bytes, to_bytes
from gen_jax.evaluation.restoration import pictures
from gen_jax.metrics import conformal
from gen_jax.pipelines.error_map import ErrorEstimator
from gen_jax.pipelines.restoration import Restorer

NAME = "gen_jax/calibration"
_VERSION = 1
_SIDE = 256
# Expected errors, in 8-bit units, and factors of intervals that are tried.
THRESHOLDS = np.geomspace(0.05, 64.0, 200)
FACTORS = np.geomspace(0.1, 100.0, 120)


@dataclasses.dataclass(frozen=True)
class Example:
    """An image of which both errors are known.

    Attributes:
      expected: Expected error of each pixel in 8-bit units.
      true: True error of each pixel in 8-bit units.
    """

    expected: Float[np.ndarray, "h w"]
    true: Float[np.ndarray, "h w"]

    def trusted_and_wrong(self, tolerance: float) -> Float[np.ndarray, " k"]:
        """Returns per threshold the share of pixels that are trusted and off by more."""
        wrong = np.sort(self.expected[self.true > tolerance])
        return np.searchsorted(wrong, THRESHOLDS, "right") / self.true.size

    def outside(self) -> Float[np.ndarray, " k"]:
        """Returns per factor the share of pixels outside of the interval."""
        needed = np.sort((self.true / self.expected).ravel())
        return 1.0 - np.searchsorted(needed, FACTORS, "right") / self.true.size

    def area(self, threshold: float) -> float:
        """Returns the share of pixels that are trusted."""
        return float((self.expected <= threshold).mean())


def examples(
    restorer: Restorer,
    estimator: ErrorEstimator,
    images: str,
    degradation: str,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Example], str]:
    """Degrades and restores the middle of each image, which counts as one scene.

    Args:
      restorer: The restorer.
      estimator: What expects its errors.
      images: A folder, or FILE.zip[:PREFIX].
      degradation: Preset of `data.degradations`.
      seed: Seed of the degradations.
      progress: Called with the images done and their number.

    Returns:
      The examples, and the SHA-256 of all clean middles.
    """
    degrade, made, digest = degradations.build(degradation), [], hashlib.sha256()
    listed = pictures.listed(images)
    for index, picture in enumerate(listed):
        x = picture.pixels()
        top, left = (max(0, side - _SIDE) // 16 * 8 for side in x.shape[:2])
        x = np.ascontiguousarray(x[top : top + _SIDE, left : left + _SIDE])
        digest.update(x.tobytes())
        y = to_bytes(degrade(from_bytes(x), np.random.default_rng([seed, index]))[0])
        result = restorer(y)
        error = np.maximum(estimator(y, result), 1e-3)
        true = np.abs(np.float32(result.pixels) - x).mean(-1)
        made.append(Example(error, true))
        progress(index + 1, len(listed))
    return made, digest.hexdigest()


def calibrate(
    found: Sequence[Example], alpha: float, delta: float, tolerance: float
) -> dict[str, Any]:
    """Returns thresholds with their guarantees.

    Args:
      found: Calibration examples, one per scene.
      alpha: Bound of both risks.
      delta: Probability that the bound of the intervals does not hold.
      tolerance: Error in 8-bit units up to which a pixel counts as right.

    Returns:
      `threshold`, the expected error up to which pixels are trusted: on average over new images at
      most a share alpha of the pixels is trusted and off by more than the tolerance. `factor`: with
      probability 1 - delta at most a share alpha of the pixels is off by more than this many times
      its expected error; None if no factor is wide enough. And the risks and the trusted area here.

    Raises:
      UserError: There are too few images for alpha.
    """
    least = conformal.least_count(alpha)
    if len(found) < least:
        raise UserError(
            f"images: n too small: alpha={alpha} needs at least {least} images of different "
            f"scenes, {len(found)} were given; name more, or a larger alpha"
        )
    wrong = np.stack([example.trusted_and_wrong(tolerance) for example in found])
    at = conformal.largest_safe(wrong, alpha)
    outside = np.stack([example.outside() for example in found])
    factor = conformal.smallest_covering(outside, alpha, delta)
    threshold = None if at is None else float(THRESHOLDS[at])
    return {
        "alpha": alpha,
        "delta": delta,
        "tolerance": tolerance,
        "n": len(found),
        "threshold": threshold,
        "risk": None if at is None else float(wrong[:, at].mean()),
        "area": 0.0 if at is None else float(np.mean([e.area(threshold) for e in found])),
        "factor": None if factor is None else float(FACTORS[factor]),
        "outside": None if factor is None else float(outside[:, factor].mean()),
    }


def coverage(
    found: Sequence[Example], alpha: float, delta: float, tolerance: float, splits: int = 20
) -> dict[str, float]:
    """Returns what calibrations on a half of the scenes achieve on the others.

    Args:
      found: Examples, one per scene.
      alpha: Bound of both risks.
      delta: Probability that the bound of the intervals does not hold.
      tolerance: Error in 8-bit units up to which a pixel counts as right.
      splits: Number of random halves.

    Returns:
      `risk` and `risk_error`, the mean over splits of the achieved risk and its standard error,
      `area`, the trusted share of pixels, and `holds`, the share of splits whose intervals hold.
    """
    risks, areas, holds = [], [], []
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(found))
        half = len(found) // 2
        known, new = ([found[i] for i in order[part]] for part in (slice(half), slice(half, None)))
        chosen = calibrate(known, alpha, delta, tolerance)
        threshold = -1.0 if chosen["threshold"] is None else chosen["threshold"]
        trusted = [(e.expected <= threshold) & (e.true > tolerance) for e in new]
        risks.append(np.mean([t.mean() for t in trusted]))
        areas.append(np.mean([e.area(threshold) for e in new]))
        if chosen["factor"] is not None:
            far = [(e.true > chosen["factor"] * e.expected).mean() for e in new]
            holds.append(np.mean(far) <= alpha)
    return {
        "risk": float(np.mean(risks)),
        "risk_error": float(np.std(risks, ddof=1) / np.sqrt(splits)),
        "area": float(np.mean(areas)),
        "holds": float(np.mean(holds)) if holds else 0.0,
    }


def document(values: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """Returns the contents of calibration.json."""
    return {"schema": NAME, "version": _VERSION, **values, **facts}
