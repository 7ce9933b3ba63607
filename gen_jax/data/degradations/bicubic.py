"""Antialiased bicubic resize as MATLAB's `imresize`, by which super-resolution is defined.

Keys' cubic kernel with a = -0.5 (doi 10.1109/TASSP.1981.1163711), stretched by the factor where it
shrinks, over the image mirrored at its borders, the border pixel repeated. Neither Pillow's nor
OpenCV's gives the same: the one cuts the kernel off at the border, the other does not stretch it.
"""

import math

import numpy as np
from jaxtyping import Float, UInt8

from gen_jax.common.errors import UserError

_SUPPORT = 4.0  # of the cubic kernel, in pixels of the coarser of the two grids
_ROUNDING = 1e-9  # a length of 85.00000000000001 is 85, not 86


def imresize(
    image: UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"], scale: float | int
) -> UInt8[np.ndarray, "h2 w2 c"] | Float[np.ndarray, "h2 w2 c"]:
    """Resizes by a factor, the same in both directions, to ceil(factor * side).

    Args:
      image: any number of channels. uint8 is rounded and clipped after each direction, as MATLAB
        does; floats of any range are computed in float64 and neither rounded nor clipped.
      scale: new over old size, such as 1/4 or 4.

    Returns:
      Of the image's dtype.

    Raises:
      UserError: a factor that is not positive.
    """
    if not 0 < scale < math.inf:
        raise UserError(f"scale={scale}: expected a positive factor")
    return _resized(image, (scale, scale))


def to_size(
    image: Float[np.ndarray, "h w c"], size: tuple[int, int]
) -> Float[np.ndarray, "h2 w2 c"]:
    """Resizes by `imresize`'s kernel to a size, which may have another aspect ratio.

    Args:
      image: Any number of channels.
      size: Height and width.
    """
    return _resized(image, tuple(new / old for new, old in zip(size, image.shape)))


def _resized(image: np.ndarray, scales: tuple[float | int, float | int]) -> np.ndarray:
    exact = image.dtype != np.uint8
    x = image
    for axis, scale in enumerate(scales):
        x = _along(x, axis, scale)
        if not exact:
            # Halves away from zero: MATLAB's uint8(), where NumPy rounds them to even.
            x = np.floor(np.clip(x, 0, 255) + 0.5).astype(np.uint8)
    return x.astype(image.dtype)


def _along(x: np.ndarray, axis: int, scale: float | int) -> np.ndarray:
    indices, weights = _contributions(x.shape[axis], scale)
    x = np.moveaxis(x, axis, 0)
    out = np.zeros((len(indices), *x.shape[1:]))
    for taken, weight in zip(indices.T, weights.T):  # one tap at a time: no copy per tap
        out += weight[:, None, None] * x[taken]
    return np.moveaxis(out, 0, axis)


def _contributions(length: int, scale: float | int) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels make each new one, and their weights: both [new length, taps]."""
    stretch = min(scale, 1.0)
    width = _SUPPORT / stretch
    new = np.arange(math.ceil(length * scale - _ROUNDING))
    centre = (new + 0.5) / scale - 0.5
    first = np.floor(centre - width / 2).astype(int)
    taps = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = _cubic(stretch * (centre[:, None] - taps))
    weights /= weights.sum(1, keepdims=True)
    used = (weights != 0).any(0)
    period = taps % (2 * length)  # ... c b a | a b c | c b a ...
    mirrored = np.minimum(period, 2 * length - 1 - period)
    return mirrored[:, used], weights[:, used]


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
