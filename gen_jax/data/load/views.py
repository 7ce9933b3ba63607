"""Random views of images on the device: crops, flips and colour changes, one draw an image.

What self-supervised training calls augmentation (arXiv:2002.05709, appendix A; with crops of two
sizes, arXiv:2006.09882). Everything is a pure function of a key, so that a resumed run draws the
same views, and the loader stays as it is. A crop is two matrix products, one an axis: each row of
a matrix holds the weights of one output pixel, blur included.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from gen_jax.common import pixels
from gen_jax.common.color import BT601_LUMA

# BT.601 luma, and the two chroma axes of NTSC: hue is an angle in their plane.
_YIQ = (BT601_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclasses.dataclass(frozen=True)
class Views:
    """How views are drawn.

    Attributes:
      size: side of a view in pixels.
      scale: range of the crop's area as a share of the image's.
      aspect: the crop's width over its height lies between 1 / aspect and aspect.
      flip: probability of mirroring.
      jitter: probability of changing the colours.
      brightness: a factor on all values lies in 1 - brightness to 1 + brightness.
      contrast: the same for the distance from the mean grey.
      saturation: the same for the distance from grey.
      hue: largest turn, as a share of the circle.
      grayscale: probability of dropping the colours.
      blur: probability of a Gaussian blur.
      blur_sigma: range of its deviation, as a share of the view's side.
      solarize: probability of inverting what is brighter than one half.
    """

    size: int
    scale: tuple[float, float] = (0.4, 1.0)
    aspect: float = 4 / 3
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.003, 0.02)
    solarize: float = 0.1

    def draw(
        self, key: Key[Array, ""], images: UInt8[Array, "b h w 3"]
    ) -> Float[Array, "b size size 3"]:
        """One view of each image, in [0, 1].

        Args:
          key: decides everything that is random.
          images: whole images.
        """
        place, colour = jax.random.split(key)
        x = pixels.to_unit(images)
        rows, columns = self._matrices(place, *images.shape[:3])
        x = jnp.einsum("brh,bhwc->brwc", rows, x)
        x = jnp.einsum("bsw,brwc->brsc", columns, x)
        return self._recolour(colour, x)

    def _matrices(self, key, count: int, height: int, width: int):
        """Weights [b, size, height] of the rows and [b, size, width] of the columns."""
        keys = jax.random.split(key, 7)
        area = _uniform(keys[0], count, *self.scale) * height * width
        stretch = jnp.exp(_uniform(keys[1], count, -1.0, 1.0) * jnp.log(self.aspect) / 2)
        tall = jnp.minimum(jnp.sqrt(area) / stretch, height)
        wide = jnp.minimum(jnp.sqrt(area) * stretch, width)
        top = _uniform(keys[2], count) * (height - tall)
        left = _uniform(keys[3], count) * (width - wide)
        mirror = _happens(keys[4], count, self.flip)
        sigma = _uniform(keys[5], count, *self.blur_sigma) * self.size
        sigma = jnp.where(_happens(keys[6], count, self.blur), sigma, 0.0)
        blur = self._blur(sigma)
        rows = blur @ self._resize(top, tall, height)
        columns = self._resize(left, wide, width)
        columns = jnp.where(mirror[:, None, None], columns[:, ::-1], columns)
        return rows, blur @ columns

    def _resize(self, start, length, count: int):
        """Triangle filter, widened where it shrinks, from `length` pixels at `start`."""
        step = length / self.size
        centre = start[:, None] + (jnp.arange(self.size)[None] + 0.5) * step[:, None]
        distance = jnp.abs(centre[:, :, None] - (jnp.arange(count) + 0.5)[None, None])
        weights = jnp.maximum(1.0 - distance / jnp.maximum(step, 1.0)[:, None, None], 0.0)
        return weights / weights.sum(-1, keepdims=True)

    def _blur(self, sigma):
        """[b, size, size]; the identity where sigma is 0."""
        at = jnp.arange(self.size, dtype=jnp.float32)
        squared = ((at[:, None] - at[None]) ** 2)[None]
        weights = jnp.exp(-0.5 * squared / jnp.maximum(sigma, 1e-3)[:, None, None] ** 2)
        return weights / weights.sum(-1, keepdims=True)

    def _recolour(self, key, x):
        count = len(x)
        keys = jax.random.split(key, 7)
        on = _happens(keys[0], count, self.jitter)

        def factor(key, strength):
            drawn = _uniform(key, count, 1.0 - strength, 1.0 + strength)
            return jnp.where(on, drawn, 1.0)[:, None, None, None]

        x = x * factor(keys[1], self.brightness)
        middle = _gray(x).mean((1, 2, 3), keepdims=True)
        x = middle + factor(keys[2], self.contrast) * (x - middle)
        gray = _gray(x)
        x = gray + factor(keys[3], self.saturation) * (x - gray)
        x = jnp.einsum("bij,bhwj->bhwi", self._turn(keys[4], on), x)
        drop = _happens(keys[5], count, self.grayscale)[:, None, None, None]
        x = jnp.clip(jnp.where(drop, _gray(x), x), 0.0, 1.0)
        invert = _happens(keys[6], count, self.solarize)[:, None, None, None]
        return jnp.where(invert & (x > 0.5), 1.0 - x, x)

    def _turn(self, key, on):
        """[b, 3, 3] that turn the chroma plane, RGB to RGB."""
        angle = 2 * jnp.pi * _uniform(key, len(on), -self.hue, self.hue)
        angle = jnp.where(on, angle, 0.0)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        one, zero = jnp.ones_like(angle), jnp.zeros_like(angle)
        turn = jnp.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], -1)
        to = jnp.asarray(_YIQ)
        return jnp.linalg.inv(to)[None] @ turn.reshape(-1, 3, 3) @ to[None]


def _gray(x):
    return (x @ jnp.asarray(BT601_LUMA))[..., None]


def _uniform(key, count: int, low: float = 0.0, high: float = 1.0):
    return jax.random.uniform(key, (count,), minval=low, maxval=high)


def _happens(key, count: int, probability: float):
    return jax.random.uniform(key, (count,)) < probability
