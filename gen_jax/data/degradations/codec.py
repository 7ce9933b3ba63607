"""Lossy codecs: the real ones, by Pillow."""

import dataclasses
import io

import numpy as np
from PIL import Image as PillowImage

from gen_jax.data.degradations.base import Image, from_bytes, to_bytes
from gen_jax.data.degradations.noise import check_range


@dataclasses.dataclass(frozen=True)
class Jpeg:
    """JPEG (libjpeg-turbo, 4:2:0 for colour).

    Attributes:
      quality: range, 1 to 95.
    """

    quality: tuple[int, int] = (30, 95)

    kind = "JPEG"

    def __post_init__(self):
        check_range("quality", self.quality, 1)

    def __call__(self, image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
        quality = int(rng.integers(self.quality[0], self.quality[1] + 1))
        return recoded(image, self.kind, quality), {"jpeg": 100.0 - quality}


class WebP(Jpeg):
    """Lossy WebP, of the same fields."""

    kind = "WEBP"


def recoded(image: Image, kind: str, quality: int) -> Image:
    """Written and read again: clipped and rounded to 8 bits on the way."""
    pixels, buffer = to_bytes(image), io.BytesIO()
    gray = pixels.shape[2] == 1
    PillowImage.fromarray(pixels[..., 0] if gray else pixels).save(buffer, kind, quality=quality)
    with PillowImage.open(buffer) as found:
        return from_bytes(np.asarray(found.convert("L" if gray else "RGB")))
