"""Noise as a camera makes it: on the sensor's mosaic, before it becomes a picture.

The picture is taken back to linear sensor values, as in "Unprocessing Images for Learned Raw
Denoising" (arXiv:1811.11127), gets shot and read noise there, and is developed again. What was
white then is neither white nor independent from pixel to pixel, and differs from channel to
channel, as in a photograph (arXiv:1807.04686 shows what that is worth on real noise).
"""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float

from gen_jax.common.color import BT601_LUMA
from gen_jax.data.degradations.base import Image, Range, uniform
from gen_jax.data.degradations.noise import check_range

# sRGB's primaries, linear, to XYZ under D65 (IEC 61966-2-1).
_XYZ_OF_RGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
# XYZ to the sensor's colours: matrices of cameras' DNG files, as arXiv:1811.11127 lists them.
_CAMERA_OF_XYZ = np.array(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ]
)
_LUMA = np.float32(BT601_LUMA)
# Rounds of rows and columns by which the four phases of an RGGB mosaic differ.
_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclasses.dataclass(frozen=True)
class Camera:
    """Shot and read noise on a Bayer mosaic, and a camera's development around it.

    Attributes:
      shot: range of the variance a unit of brightness, in linear values of 0 to 1, drawn evenly in
        its logarithm; the read noise follows it as in arXiv:1811.11127.
      smooth: probability that the camera smooths the result a little, before it encodes it.
      smooth_sigma: range of the deviation of that, in pixels.
      coarse: probability that the camera's own noise reduction leaves the picture sharp, as those
        that keep edges do, and of the noise a part, as coarse grain.
      coarse_sigma: range of the deviation of the blur on the noise alone, in pixels.
      coarse_share: range of what is left of its deviation, drawn evenly in its logarithm.
      color_sigma: range of how many times wider the noise's colour is blurred, as cameras do,
        since eyes miss it less.
      color_share: range of what is left of the colour besides.
      again: probability that the picture, too, goes through the mosaic and the smoothing once
        more. Otherwise it gets the noise alone: it is a camera's picture already, and the sharp
        one is what the mean of many shots would be.
    """

    shot: Range = (0.00005, 0.02)
    smooth: float = 0.5
    smooth_sigma: Range = (0.4, 0.9)
    coarse: float = 0.6
    coarse_sigma: Range = (0.5, 2.0)
    coarse_share: Range = (0.15, 1.0)
    color_sigma: Range = (1.0, 2.0)
    color_share: Range = (0.3, 1.0)
    again: float = 0.3

    def __post_init__(self):
        check_range("shot", self.shot, 1e-9)
        check_range("coarse_share", self.coarse_share, 1e-3)
        for name in ("smooth_sigma", "coarse_sigma", "color_sigma", "color_share"):
            check_range(name, getattr(self, name))

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        height, width, channels = image.shape
        pads = ((0, height % 2), (0, width % 2), (0, 0))
        picture = np.pad(np.clip(image, 0.0, 1.0), pads, mode="symmetric")
        picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
        develop, linear = _unprocess(picture, rng)
        shot = _log_uniform(rng, self.shot)
        # Of the paper's line between the logarithms of both variances, and its spread.
        read = float(np.exp(2.18 * np.log(shot) + 1.20 + rng.normal(0.0, 0.26)))
        phase = _PHASES[rng.integers(4)]
        raw = mosaic(linear, phase)
        noise = rng.standard_normal(raw.shape, np.float32)
        noisy = np.clip(raw + noise * np.sqrt(shot * raw + read), 0.0, 1.0)
        blur = uniform(rng, self.smooth_sigma) if rng.random() < self.smooth else 0.0
        clean, found = (
            develop(smoothed(demosaic(x, phase), blur))[:height, :width] for x in (raw, noisy)
        )
        noise = found - clean
        if rng.random() < self.coarse:
            noise = self._reduced(noise, rng)
        if rng.random() >= self.again:
            clean, blur = picture[:height, :width], 0.0
        found = np.clip(clean + noise, 0.0, 1.0)
        if channels == 1:
            clean, found = (x @ _LUMA[:, None] for x in (clean, found))
        sigma = float(np.sqrt(np.mean((found - clean) ** 2)) * 255.0)
        return np.float32(found), {"sigma": sigma} | ({"blur": blur} if blur else {})

    def _reduced(self, noise, rng):
        sigma, wider = uniform(rng, self.coarse_sigma), uniform(rng, self.color_sigma)
        share, color_share = _log_uniform(rng, self.coarse_share), uniform(rng, self.color_share)
        luma = (noise @ _LUMA)[..., None]
        luma, color = coarsened(luma, sigma), coarsened(noise - luma, sigma * wider)
        return share * (luma + color_share * color)


def _log_uniform(rng, bounds: Range) -> float:
    return float(np.exp(uniform(rng, tuple(np.log(bounds)))))


def _unprocess(picture, rng):
    """Development as a function, and linear sensor colours in [0, 1] that it would begin from."""
    weights = rng.dirichlet(np.ones(len(_CAMERA_OF_XYZ)))
    matrix = np.tensordot(weights, _CAMERA_OF_XYZ, 1) @ _XYZ_OF_RGB
    matrix = np.float32(matrix / matrix.sum(1, keepdims=True))  # white stays white
    inverse = np.linalg.inv(matrix).astype(np.float32)
    gains = np.float32([rng.uniform(1.9, 2.4), 1.0, rng.uniform(1.5, 1.9)])
    curved = rng.random() < 0.5  # an S-shaped tone curve on top of the gamma, or none

    def develop(x):
        y = np.clip((x * gains) @ inverse.T, 0.0, 1.0)
        y = encode_srgb(y)
        return y * y * (3.0 - 2.0 * y) if curved else y

    y = picture
    if curved:  # the inverse of the smoothstep
        y = 0.5 - np.sin(np.arcsin(np.clip(1.0 - 2.0 * y, -1.0, 1.0)) / 3.0)
    return develop, np.clip((decode_srgb(y) @ matrix.T) / gains, 0.0, 1.0).astype(np.float32)


def decode_srgb(x: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """From sRGB values to linear ones (IEC 61966-2-1), in [0, 1]."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encode_srgb(x: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """The inverse of `decode_srgb`."""
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055).astype(np.float32)


def mosaic(linear: Float[np.ndarray, "h w 3"], phase: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """The one colour that each pixel of a Bayer sensor sees: red at `phase`, blue diagonally."""
    row, column = phase
    raw = linear[..., 1].copy()
    raw[row::2, column::2] = linear[row::2, column::2, 0]
    raw[1 - row :: 2, 1 - column :: 2] = linear[1 - row :: 2, 1 - column :: 2, 2]
    return raw


def demosaic(raw: Float[np.ndarray, "h w"], phase: tuple[int, int]) -> Float[np.ndarray, "h w 3"]:
    """Gradient-corrected linear interpolation (Malvar, He and Cutler, ICASSP 2004)."""
    at = {color: np.zeros(raw.shape, bool) for color in "rgb"}
    row, column = phase
    at["r"][row::2, column::2] = True
    at["b"][1 - row :: 2, 1 - column :: 2] = True
    at["g"] = ~(at["r"] | at["b"])
    red_rows = np.zeros(raw.shape, bool)
    red_rows[row::2] = True
    green, along, across, other = (
        cv2.filter2D(raw, -1, k, borderType=cv2.BORDER_REFLECT_101) for k in _MALVAR
    )
    out = np.empty((*raw.shape, 3), np.float32)
    out[..., 1] = np.where(at["g"], raw, green)
    on_green = np.where(red_rows, along, across)  # red's neighbours lie in its own rows
    out[..., 0] = np.select([at["r"], at["b"]], [raw, other], on_green)
    on_green = np.where(red_rows, across, along)
    out[..., 2] = np.select([at["b"], at["r"]], [raw, other], on_green)
    return np.clip(out, 0.0, 1.0)


def _kernel(*rows):
    return np.float32(rows) / 8


_MALVAR = (
    _kernel(
        (0, 0, -1, 0, 0), (0, 0, 2, 0, 0), (-1, 2, 4, 2, -1), (0, 0, 2, 0, 0), (0, 0, -1, 0, 0)
    ),
    _kernel(
        (0, 0, 0.5, 0, 0),
        (0, -1, 0, -1, 0),
        (-1, 4, 5, 4, -1),
        (0, -1, 0, -1, 0),
        (0, 0, 0.5, 0, 0),
    ),
    _kernel(
        (0, 0, -1, 0, 0),
        (0, -1, 4, -1, 0),
        (0.5, 0, 5, 0, 0.5),
        (0, -1, 4, -1, 0),
        (0, 0, -1, 0, 0),
    ),
    _kernel(
        (0, 0, -1.5, 0, 0),
        (0, 2, 0, 2, 0),
        (-1.5, 0, 6, 0, -1.5),
        (0, 2, 0, 2, 0),
        (0, 0, -1.5, 0, 0),
    ),
)
"""Green at red and blue; a colour at green whose row has it; whose column has it; at the other."""


def smoothed(x: Float[np.ndarray, "h w 3"], sigma: float) -> Float[np.ndarray, "h w 3"]:
    """Gaussian blur of a deviation in pixels, 0 for none."""
    if sigma <= 0.0:
        return x
    return cv2.GaussianBlur(x, (5, 5), sigma, borderType=cv2.BORDER_REFLECT_101)


def coarsened(noise: Float[np.ndarray, "h w c"], sigma: float) -> Float[np.ndarray, "h w c"]:
    """Noise blurred by a Gaussian of a deviation in pixels, as strong as it was."""
    if sigma <= 0.0:
        return noise
    out = cv2.GaussianBlur(noise, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    out = out.reshape(noise.shape)  # OpenCV drops a single channel
    return out * (noise.std() / max(float(out.std()), 1e-6))
