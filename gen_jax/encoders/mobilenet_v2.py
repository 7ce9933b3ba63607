"""MobileNetV2 (arXiv 1801.04381) as torchvision has it: a small ImageNet classifier."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.encoders.frozen_layers import (
    BATCH_NORM_EXTRA,
    BATCH_NORM_NAMES,
    HIGHEST,
    BatchNorm,
    DepthwiseConv,
    check_size,
    conv,
)
from gen_jax.encoders.weights import Port

PORT = Port(
    rename=(
        # The first block does not expand, so that its places are one less.
        (r"^features\.1\.depthwise\.", "features.1.conv.0."),
        (r"^features\.1\.project\.conv\.", "features.1.conv.1."),
        (r"^features\.1\.project\.norm\.", "features.1.conv.2."),
        (r"\.expand\.", ".conv.0."),
        (r"\.depthwise\.", ".conv.1."),
        (r"\.project\.conv\.", ".conv.2."),
        (r"\.project\.norm\.", ".conv.3."),
        (r"\.conv\.weight$", ".0.weight"),
        (r"\.norm\.", ".1."),
        (r"^classifier\.", "classifier.1."),
        *BATCH_NORM_NAMES,
    ),
    ignore=BATCH_NORM_EXTRA,
)
"""torchvision's mobilenet_v2 files."""

# Expansion, channels, blocks, stride of the first block: the paper's table 2.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

# ImageNet's, for images in [0, 1].
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class MobileNetV2Outputs(NamedTuple):
    """What the network says of [b, h, w, 3] images.

    Attributes:
      stages: maps [b, h', w', c]: after the first convolution (32 channels, half the size),
        after each of the seven stages (16, 24, 32, 64, 96, 160, 320 channels; the size over
        2, 4, 8, 16, 16, 32, 32, rounded up), and the last (1280 channels).
      pooled: [b, 1280], the mean over the last map.
      logits: [b, 1000], in the order of ImageNet's classes; None without a classifier.
    """

    stages: tuple[Float[Array, "b _ _ _"], ...]
    pooled: Float[Array, "b d"]
    logits: Float[Array, "b k"] | None


class ConvNorm(nn.Module):
    """A convolution without bias, batch normalisation, and ReLU up to 6 where asked for.

    Attributes:
      features: output channels.
      size: of the square kernel, padded so that at stride 1 the map keeps its size.
      stride: in both directions.
      depthwise: whether each channel is convolved by itself; `features` is their number then.
      activation: whether there is one.
      precision: of the products.
    """

    features: int
    size: int = 1
    stride: int = 1
    depthwise: bool = False
    activation: bool = True
    precision: Any = HIGHEST

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        if self.depthwise:
            layer = DepthwiseConv(self.size, self.stride, name="conv")
        else:
            layer = conv(
                self.features,
                self.size,
                stride=self.stride,
                padding=self.size // 2,
                bias=False,
                precision=self.precision,
                name="conv",
            )
        x = BatchNorm(1e-5, name="norm")(layer(x))
        return jax.nn.relu6(x) if self.activation else x


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, narrow; added to the input where shapes allow.

    Attributes:
      features: output channels.
      stride: of the middle convolution.
      expansion: times the input's channels between; at 1 nothing is widened.
      precision: of the products.
    """

    features: int
    stride: int
    expansion: int
    precision: Any = HIGHEST

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        kind, y, wide = {"precision": self.precision}, x, x.shape[-1] * self.expansion
        if self.expansion != 1:
            y = ConvNorm(wide, name="expand", **kind)(y)
        y = ConvNorm(wide, 3, self.stride, depthwise=True, name="depthwise", **kind)(y)
        y = ConvNorm(self.features, activation=False, name="project", **kind)(y)
        return x + y if self.stride == 1 and x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """The classifier; all maps come back, and under `jit` unused ones cost nothing.

    Attributes:
      num_classes: Classes of the last layer; 0 leaves it out.
      width_mult: multiplies the channels, which are then rounded to multiples of 8.
      precision: of the products; None for JAX's default, which is coarser on accelerators.
    """

    num_classes: int = 1000
    width_mult: float | int = 1.0
    precision: Any = HIGHEST

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> MobileNetV2Outputs:
        """Maps, pooled features and logits of RGB images in [-1, 1].

        Args:
          x: any size; the weights were fitted to squares of 224 pixels.
        """
        check_size(x, 1, "MobileNetV2")
        mean, std = (jnp.asarray(v, jnp.float32)[None, None, None] for v in (_MEAN, _STD))
        x = ((x.astype(jnp.float32) + 1) / 2 - mean) / std
        kind, place = {"precision": self.precision}, 1
        x = ConvNorm(round_to_8(32 * self.width_mult), 3, 2, name="features_0", **kind)(x)
        stages = [x]
        for expansion, channels, blocks, stride in STAGES:
            features = round_to_8(channels * self.width_mult)
            for i in range(blocks):
                name, step = f"features_{place}", stride if i == 0 else 1
                x = InvertedResidual(features, step, expansion, name=name, **kind)(x)
                place += 1
            stages.append(x)
        last = round_to_8(1280 * max(1.0, self.width_mult))
        x = ConvNorm(last, name=f"features_{place}", **kind)(x)
        stages.append(x)
        pooled = x.mean(axis=(1, 2))
        logits = None
        if self.num_classes:
            logits = nn.Dense(self.num_classes, name="classifier", **kind)(pooled)
        return MobileNetV2Outputs(tuple(stages), pooled, logits)

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array, ...]:
        """Zeros of a small shape, for `init`."""
        return (jnp.zeros((batch_size, 32, 32, 3)),)


def round_to_8(channels: float | int) -> int:
    """The nearest multiple of 8, or the next where that would take more than a tenth away."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
