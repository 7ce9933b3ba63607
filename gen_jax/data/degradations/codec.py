"""Lossy codecs: the real ones, by Pillow."""

import dataclasses
import io

import numpy as np
from PIL import Image as PillowImage

from gen_jax.common import ranges
from gen_jax.data.degradations.base import Image, from_bytes, to_bytes
from gen_jax.data.degradations.noise import check_range


@dataclasses.dataclass(frozen=True)
class Jpeg:
    """JPEG (libjpeg-turbo).

    Attributes:
      quality: Range of the quality, 1 to 95.
      aligned: Probability that the grid of blocks begins at the image's corner. Otherwise it is
        shifted, as in a cropped file.
      subsampled: Probability that the chroma is subsampled (4:2:0). Otherwise it is not (4:4:4).
    """

    quality: tuple[int, int] = (30, 95)
    aligned: float | int = 1.0
    subsampled: float | int = 1.0

    kind = "JPEG"

    def __post_init__(self):
        check_range("quality", self.quality, 1)
        for name in ("aligned", "subsampled"):
            ranges.check_range(getattr(self, name), ranges.SHARE, name)

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        quality = int(rng.integers(self.quality[0], self.quality[1] + 1))
        # The defaults draw nothing, so that the random numbers of older recipes stay the same.
        is_shifted = self.aligned < 1.0 and rng.random() >= self.aligned
        options = {}
        if self.subsampled < 1.0 and rng.random() >= self.subsampled:
            options["subsampling"] = "4:4:4"
        top, left = (int(rng.integers(16)) for _ in range(2)) if is_shifted else (0, 0)
        wide = np.pad(image, ((top, 0), (left, 0), (0, 0)), mode="symmetric")
        coded = recoded(wide, self.kind, quality, **options)
        return np.ascontiguousarray(coded[top:, left:]), {"jpeg": 100.0 - quality}


class WebP(Jpeg):
    """Lossy WebP, which is always subsampled and aligned."""

    kind = "WEBP"


def recoded(image: Image, kind: str, quality: int, **options: str) -> Image:
    """Encodes and decodes an image, clipped and rounded to 8 bits on the way.

    Args:
      image: In about [0, 1].
      kind: Pillow's name of the format.
      quality: Quality of the format, 0 to 100.
      options: Further options of Pillow's encoder.
    """
    pixels, buffer = to_bytes(image), io.BytesIO()
    gray = pixels.shape[2] == 1
    PillowImage.fromarray(pixels[..., 0] if gray else pixels).save(
        buffer, kind, quality=quality, **options
    )
    with PillowImage.open(buffer) as decoded:
        return from_bytes(np.asarray(decoded.convert("L" if gray else "RGB")))
