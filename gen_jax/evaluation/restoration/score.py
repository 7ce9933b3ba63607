"""Restored pictures against what they were, as the protocols compare them."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float, UInt8

from gen_jax.common import pixels
from gen_jax.metrics import luma as luma_lib
from gen_jax.metrics.psnr import psnr
from gen_jax.metrics.ssim import ssim

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""LPIPS of two stacks of uint8 RGB [n, h, w, 3]."""


@jax.jit
def _both(x, y):
    return psnr(x, y, 255.0)[0], ssim(x, y, 255.0)[0]


def score(
    restored: Float[np.ndarray, "h w c"],
    reference: UInt8[np.ndarray, "h w c"],
    luma: bool = False,
    border: int = 0,
    distance: Distance | None = None,
) -> dict[str, float]:
    """PSNR in dB and SSIM (11x11 Gaussian, whole windows) of one picture at 8 bits.

    Args:
      restored: in [0, 1]; what lies outside is clipped.
      reference: of the same size.
      luma: whether colours are compared by their BT.601 luma, rounded to 8 bits on both sides as
        MATLAB's rgb2ycbcr does. A gray picture is its own luma.
      border: pixels that are cut off each side.
      distance: LPIPS, of the pictures in RGB.

    Returns:
      `psnr`, infinite where both are equal; `ssim`; `lpips` where a distance is given.
    """
    clipped = np.clip(restored, 0.0, 1.0)[None]
    first, second = pixels.from_unit(clipped), reference[None]
    cut = slice(border, -border or None)
    found = {}
    if distance is not None:
        copies = 3 // reference.shape[-1]  # of a gray picture
        pair = (v[:, cut, cut].repeat(copies, axis=-1) for v in (first, second))
        found["lpips"] = float(distance(*pair)[0])
    if luma and reference.shape[-1] == 3:
        # The luma of what was restored is rounded once, not the three colours before it.
        first = pixels.from_unit(np.asarray(luma_lib.bt601_luma(clipped)))
        second = pixels.from_unit(np.asarray(luma_lib.bt601_luma(pixels.to_unit(second))))
    values = _both(*(np.float32(v[:, cut, cut]) for v in (first, second)))
    return {"psnr": float(values[0]), "ssim": float(values[1]), **found}
