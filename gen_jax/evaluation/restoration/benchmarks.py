"""The protocols of the literature: how a picture is degraded, and what is compared."""

import dataclasses
import io
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.common.pixels import to_unit
from gen_jax.data.degradations.bicubic import imresize
from gen_jax.evaluation.restoration.pictures import Picture

_SSIM_WINDOW = 11


@dataclasses.dataclass(frozen=True)
class Given:
    """What is known of a degradation, to the benchmark and to a restorer; None where nothing is.

    Attributes:
      sigma: deviation of the noise, in steps of 8 bits.
      scale: factor of super-resolution.
      quality: of the JPEG.
    """

    sigma: float | int | None = None
    scale: int | None = None
    quality: int | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """One picture of a benchmark.

    Attributes:
      name: of the picture.
      degraded: in [0, 1] but for noise that leaves it, float32.
      reference: what it was.
    """

    name: str
    degraded: Float[np.ndarray, "h w c"]
    reference: UInt8[np.ndarray, "h2 w2 c"]


def _each(pictures: Sequence[Picture]) -> list[tuple[Picture, ...]]:
    return [(picture,) for picture in pictures]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A protocol.

    Attributes:
      case: (given, picture, ...) -> the case.
      uses: the fields of `Given` that it reads, with the values where none are given.
      group: which pictures make a case together.
      luma: whether the rounded BT.601 luma of colour pictures is compared, and as many pixels of
        the border cut off as the scale says.
    """

    case: Callable[..., Case]
    uses: dict[str, float | int] = dataclasses.field(default_factory=dict)
    group: Callable[[Sequence[Picture]], list[tuple[Picture, ...]]] = _each
    luma: bool = False


def add_noise(clean: UInt8[np.ndarray, "h w c"], sigma: float | int) -> Float[np.ndarray, "h w c"]:
    """White noise of deviation `sigma`/255 on [0, 1], from NumPy's seed 0, not clipped.

    The legacy generator, anew for each picture, drawn as [h, w, c]: the figures of KAIR's, SCUNet's
    and SwinIR's scripts rest on it.
    """
    noise = np.random.RandomState(0).normal(0, sigma / 255.0, clean.shape)
    return np.float32(to_unit(clean) + noise)


def as_jpeg(clean: UInt8[np.ndarray, "h w c"], quality: int) -> Float[np.ndarray, "h w c"]:
    """Compresses an image by Pillow's JPEG and decodes it again, in [0, 1].

    Three channels are RGB, whose chroma Pillow halves in both directions (4:2:0) by default.
    """
    file = io.BytesIO()
    is_gray = clean.shape[-1] == 1
    Image.fromarray(clean[..., 0] if is_gray else clean).save(file, "JPEG", quality=quality)
    return to_unit(np.asarray(Image.open(file)).reshape(clean.shape))


def _one_channel(pixels: np.ndarray) -> np.ndarray:
    """Drops the channels of a gray image that repeat the first; color stays as it is."""
    return pixels if (pixels != pixels[..., :1]).any() else pixels[..., :1]


def _gray(picture: Picture) -> np.ndarray:
    pixels = _one_channel(picture.pixels())
    if pixels.shape[-1] > 1:
        raise UserError(f"{picture.where}: a color image; this benchmark expects gray ones")
    return pixels


def _colour(picture: Picture) -> np.ndarray:
    pixels = picture.pixels()
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _denoise_gray(given: Given, picture: Picture) -> Case:
    clean = _gray(picture)
    return Case(picture.name, add_noise(clean, given.sigma), clean)


def _denoise_color(given: Given, picture: Picture) -> Case:
    clean = _colour(picture)
    return Case(picture.name, add_noise(clean, given.sigma), clean)


def _jpeg(given: Given, picture: Picture) -> Case:
    clean = _one_channel(picture.pixels())
    return Case(picture.name, as_jpeg(clean, given.quality), clean)


def _sr(given: Given, picture: Picture) -> Case:
    pixels, scale = picture.pixels(), given.scale
    h, w = (n - n % scale for n in pixels.shape[:2])
    if min(h, w) < _SSIM_WINDOW + 2 * scale:
        raise UserError(f"{picture.where}: too small for scale={scale}; remove it")
    clean = pixels[:h, :w]
    return Case(picture.name, to_unit(imresize(clean, 1 / scale)), clean)


def _real_pair(given: Given, noisy: Picture, mean: Picture) -> Case:
    x, y = _colour(noisy), _colour(mean)
    if x.shape != y.shape:
        raise UserError(f"{noisy.where}: of another size than its reference {mean.name}")
    return Case(noisy.name, to_unit(x), y)


def _pairs(pictures: Sequence[Picture]) -> list[tuple[Picture, ...]]:
    by_name, found = {p.name: p for p in pictures}, []
    for picture in pictures:
        path = pathlib.PurePosixPath(picture.name)
        if not path.stem.endswith("_real"):
            continue
        stem = path.stem.removesuffix("_real")
        mean = path.with_name(f"{stem}_mean{path.suffix}").as_posix()
        if mean not in by_name:
            raise UserError(f"{picture.where}: its reference {mean} is missing; add it")
        found.append((picture, by_name[mean]))
    if not found:
        raise UserError(
            f"{pictures[0].where}: no picture here is called *_real; this benchmark pairs "
            "NAME_real with NAME_mean"
        )
    return found


BENCHMARKS = {
    "denoise_gray": Benchmark(_denoise_gray, {"sigma": 25.0}),
    "denoise_color": Benchmark(_denoise_color, {"sigma": 25.0}),
    "sr": Benchmark(_sr, {"scale": 4}, luma=True),
    "jpeg": Benchmark(_jpeg, {"quality": 10}),
    "real_pairs": Benchmark(_real_pair, group=_pairs),
}
"""Name -> protocol."""
