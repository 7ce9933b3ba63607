"""The feature towers of LPIPS: AlexNet, VGG16, SqueezeNet 1.1, and AlexNet with blur pooling.

Architectures: arXiv 1404.5997, 1409.1556 and 1602.07360 as torchvision has them, and
ShiftTolerant-LPIPS (arXiv 2207.13686) with the blur of arXiv 1904.11486. Parameter paths are
the places in torchvision's `features`, so that its files load by the rules alone.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.encoders.frozen_layers import HIGHEST, check_size, conv, max_pool
from gen_jax.encoders.weights import Port

# LPIPS's own rounding of ImageNet's mean and deviation, for images in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

TORCHVISION = Port(ignore=(r"^classifier\.",))
"""torchvision's alexnet, vgg16 and squeezenet1_1 files, of which the classifier is left."""

SHIFT_TOLERANT = Port(
    rename=(
        (r"^features\.0\.", "net.slice1.0."),
        (r"^features\.5\.", "net.slice2.5."),
        (r"^features\.9\.", "net.slice3.9."),
        (r"^features\.11\.", "net.slice4.11."),
        (r"^features\.13\.", "net.slice5.13."),
    ),
    ignore=(r"\.filt$", r"^lin\d\.", r"^scaling_layer\."),
)
"""stlpips_pytorch's alex_shift_tolerant; its blur kernels are constants here."""

Taps = tuple[Float[Array, "b _ _ _"], ...]


def scaled(x: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Images in [-1, 1] as the towers saw them in training."""
    shift, scale = (jnp.asarray(v, jnp.float32)[None, None, None] for v in (_SHIFT, _SCALE))
    return (x.astype(jnp.float32) - shift) / scale


class _Tower(nn.Module):
    """What the towers share.

    Attributes:
      precision: of the products; None for JAX's default, which is coarser on accelerators.
    """

    precision: Any = HIGHEST

    least_size: ClassVar[int]
    tap_channels: ClassVar[tuple[int, ...]]

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array, ...]:
        """Zeros of the smallest shape that `init` takes."""
        return (jnp.zeros((batch_size, self.least_size, self.least_size, 3)),)

    def _start(self, x):
        check_size(x, self.least_size, type(self).__name__)
        return scaled(x)

    def _conv(self, x, place, features, size, stride=1, padding=0):
        layer = conv(
            features,
            size,
            stride=stride,
            padding=padding,
            precision=self.precision,
            name=f"features_{place}",
        )
        return layer(x)


class AlexNet(_Tower):
    """AlexNet's convolutions; taps after each of the five."""

    least_size = 31
    tap_channels = (64, 192, 384, 256, 256)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Taps:
        """Five maps of images in [-1, 1]: the first a quarter of the size, channels last."""
        x = jax.nn.relu(self._conv(self._start(x), 0, 64, 11, stride=4, padding=2))
        taps = [x]
        for place, features, size, pooled in (
            (3, 192, 5, True),
            (6, 384, 3, True),
            (8, 256, 3, False),
            (10, 256, 3, False),
        ):
            x = max_pool(x, 3, 2) if pooled else x
            x = jax.nn.relu(self._conv(x, place, features, size, padding=size // 2))
            taps.append(x)
        return tuple(taps)


class VGG16(_Tower):
    """VGG16's convolutions; taps before each pooling (relu1_2 to relu5_3)."""

    least_size = 16
    tap_channels = (64, 128, 256, 512, 512)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Taps:
        """Five maps of images in [-1, 1]: the first of full size, each half of the one before."""
        x, taps, place = self._start(x), [], 0
        for features, count in zip(self.tap_channels, (2, 2, 3, 3, 3)):
            if taps:
                x, place = max_pool(x, 2, 2), place + 1
            for _ in range(count):
                x = jax.nn.relu(self._conv(x, place, features, 3, padding=1))
                place += 2  # the activation has a place as well
            taps.append(x)
        return tuple(taps)


class Fire(nn.Module):
    """SqueezeNet's block: few channels, then many through 1x1 and 3x3 kernels side by side.

    Attributes:
      squeeze: channels between.
      expand: channels of each of the two outputs.
      precision: of the products.
    """

    squeeze: int
    expand: int
    precision: Any = HIGHEST

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        kind = {"precision": self.precision}
        x = jax.nn.relu(conv(self.squeeze, 1, name="squeeze", **kind)(x))
        small = conv(self.expand, 1, name="expand1x1", **kind)(x)
        large = conv(self.expand, 3, padding=1, name="expand3x3", **kind)(x)
        return jax.nn.relu(jnp.concatenate([small, large], axis=-1))


class SqueezeNet(_Tower):
    """SqueezeNet 1.1's features; taps after the first convolution and six of the blocks."""

    least_size = 17
    tap_channels = (64, 128, 256, 384, 384, 512, 512)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Taps:
        """Seven maps of images in [-1, 1]: half, a quarter, an eighth, then sixteenths."""
        x = jax.nn.relu(self._conv(self._start(x), 0, 64, 3, stride=2))
        taps = [x]
        for places, pooled, squeeze, expand in (
            ((3, 4), True, 16, 64),
            ((6, 7), True, 32, 128),
            ((9,), True, 48, 192),
            ((10,), False, 48, 192),
            ((11,), False, 64, 256),
            ((12,), False, 64, 256),
        ):
            x = max_pool(x, 3, 2, ceil=True) if pooled else x
            for place in places:
                x = Fire(squeeze, expand, self.precision, name=f"features_{place}")(x)
            taps.append(x)
        return tuple(taps)


def blur_half(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Every second pixel of the map blurred by (1, 2, 1) / 4 both ways, mirrored by 2 outside."""
    x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for axis in (1, 2):
        reach = (x.shape[axis] - 3) // 2 * 2 + 1
        a, b, c = (jax.lax.slice_in_dim(x, i, i + reach, 2, axis) for i in range(3))
        x = (a + 2 * b + c) / 4
    return x


class ShiftTolerantAlexNet(_Tower):
    """AlexNet that blurs before it drops pixels; taps after each of the five convolutions."""

    least_size = 21
    tap_channels = AlexNet.tap_channels

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Taps:
        """Five maps of images in [-1, 1]: the first half of the size, then a quarter, eighths."""
        x = self._conv(self._start(x), 0, 64, 11, padding=2)
        x = jax.nn.relu(blur_half(x))
        taps = [x]
        for place, features, size, pooled in (
            (5, 192, 5, True),
            (9, 384, 3, True),
            (11, 256, 3, False),
            (13, 256, 3, False),
        ):
            x = blur_half(max_pool(x, 3, 1)) if pooled else x
            x = jax.nn.relu(self._conv(x, place, features, size, padding=size // 2))
            taps.append(x)
        return tuple(taps)
