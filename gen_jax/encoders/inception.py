"""Inception-v3 as the Frechet inception distance takes it (arXiv 1512.00567, 1706.08500).

The network of TensorFlow's `inception-2015-12-05`, in the spelling of pytorch-fid's port of
it (`pt_inception-2015-12-05`). It differs from torchvision's in its pooling: averages leave
the border's zeros out, and the last block takes maxima. 1008 classes, of which the first 1001
are ImageNet's and nothing.
"""

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
    check_size,
    conv,
    max_pool,
)
from gen_jax.encoders.weights import Port

_BRANCHES = ("branch3x3", "branch3x3dbl", "branch5x5", "branch7x7", "branch7x7dbl", "branch7x7x3")

PORT = Port(
    keep=tuple(f"{branch}_{i}" for branch in _BRANCHES for i in range(1, 6)),
    rename=BATCH_NORM_NAMES,
    ignore=BATCH_NORM_EXTRA,
)
"""pt_inception-2015-12-05-6726825d, as safetensors."""

LEAST_SIZE = 75


class InceptionTaps(NamedTuple):
    """Features of [b, h, w, 3] images; sizes in brackets are those of 299 x 299 pixels.

    Attributes:
      pool1: [b, 73, 73, 64], after the first max pooling.
      pool2: [b, 35, 35, 192], after the second.
      mixed6: [b, 17, 17, 768], before the auxiliary classifier.
      pooled: [b, 2048], the mean over the last map: what FID and KID are taken of.
      logits: [b, 1008].
    """

    pool1: Float[Array, "b h1 w1 c1"]
    pool2: Float[Array, "b h2 w2 c2"]
    mixed6: Float[Array, "b h3 w3 c3"]
    pooled: Float[Array, "b d"]
    logits: Float[Array, "b k"]


class ConvNormReLU(nn.Module):
    """A convolution without bias, batch normalisation, ReLU.

    Attributes:
      features: output channels.
      size: of the kernel.
      stride: in both directions.
      padding: zeros on each side.
      precision: of the products.
    """

    features: int
    size: int | tuple[int, int]
    stride: int = 1
    padding: int | tuple[int, int] = 0
    precision: Any = HIGHEST

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        layer = conv(
            self.features,
            self.size,
            stride=self.stride,
            padding=self.padding,
            bias=False,
            precision=self.precision,
            name="conv",
        )
        return jax.nn.relu(BatchNorm(1e-3, name="bn")(layer(x)))


# A branch: its convolutions in order, as (channels, kernel) or (channels, kernel, stride).
# Kernels at stride 1 keep the size, those at stride 2 take whole windows only.
_WIDE, _HIGH = (1, 7), (7, 1)
_BLOCK_A = {
    "branch1x1": ((64, 1),),
    "branch5x5": ((48, 1), (64, 5)),
    "branch3x3dbl": ((64, 1), (96, 3), (96, 3)),
}
_BLOCK_B = {"branch3x3": ((384, 3, 2),), "branch3x3dbl": ((64, 1), (96, 3), (96, 3, 2))}
_BLOCK_D = {
    "branch3x3": ((192, 1), (320, 3, 2)),
    "branch7x7x3": ((192, 1), (192, _WIDE), (192, _HIGH), (192, 3, 2)),
}


def _block_c(c: int):
    return {
        "branch1x1": ((192, 1),),
        "branch7x7": ((c, 1), (c, _WIDE), (192, _HIGH)),
        "branch7x7dbl": ((c, 1), (c, _HIGH), (c, _WIDE), (c, _HIGH), (192, _WIDE)),
    }


class Mixed(nn.Module):
    """Branches of convolutions side by side, with a pooled one at the end.

    Attributes:
      branches: name -> its convolutions.
      pool_features: channels of the 1x1 convolution after the pooling; 0 for a max pooling
        of stride 2 and nothing after it.
      precision: of the products.
    """

    branches: Any
    pool_features: int = 0
    precision: Any = HIGHEST

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        outputs = []
        for name, layers in self.branches.items():
            y = x
            for i, (features, size, *stride) in enumerate(layers, 1):
                part = name if len(layers) == 1 else f"{name}_{i}"
                y = _layer(features, size, *stride, precision=self.precision, name=part)(y)
            outputs.append(y)
        if self.pool_features:
            y = _layer(self.pool_features, 1, precision=self.precision, name="branch_pool")(
                average_inside(x)
            )
        else:
            y = max_pool(x, 3, 2)
        return jnp.concatenate([*outputs, y], axis=-1)


class MixedE(nn.Module):
    """The last two blocks, whose branches end in a wide and a high kernel side by side.

    Attributes:
      max_pooled: whether the pooled branch takes the maximum instead of the mean.
      precision: of the products.
    """

    max_pooled: bool
    precision: Any = HIGHEST

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        def layer(features, size, name):
            return _layer(features, size, precision=self.precision, name=name)

        def fork(y, name):
            halves = (("a", (1, 3)), ("b", (3, 1)))
            return [layer(384, size, f"{name}{half}")(y) for half, size in halves]

        three = layer(384, 1, "branch3x3_1")(x)
        double = layer(448, 1, "branch3x3dbl_1")(x)
        double = layer(384, 3, "branch3x3dbl_2")(double)
        pooled = max_pool(x, 3, 1, padding=1) if self.max_pooled else average_inside(x)
        outputs = [
            layer(320, 1, "branch1x1")(x),
            *fork(three, "branch3x3_2"),
            *fork(double, "branch3x3dbl_3"),
            layer(192, 1, "branch_pool")(pooled),
        ]
        return jnp.concatenate(outputs, axis=-1)


def average_inside(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Mean over each pixel's 3x3 neighbours that lie inside the map."""
    pads = ((1, 1), (1, 1))
    return nn.avg_pool(x, (3, 3), (1, 1), pads, count_include_pad=False)


def _layer(features, size, stride=1, *, precision, name):
    high, wide = (size, size) if isinstance(size, int) else size
    padding = (high // 2, wide // 2) if stride == 1 else 0
    return ConvNormReLU(features, size, stride, padding, precision, name=name)


class InceptionV3(nn.Module):
    """The network of FID; all taps come back, and under `jit` unused ones cost nothing.

    Attributes:
      num_classes: of the last layer.
      precision: of the products; None for JAX's default, which is coarser on accelerators.
    """

    num_classes: int = 1008
    precision: Any = HIGHEST

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> InceptionTaps:
        """Taps of RGB images in [-1, 1].

        Args:
          x: at the size FID prescribes, 299 x 299 (see `inception_inputs`), or any other of
            at least 75 pixels a side.
        """
        check_size(x, LEAST_SIZE, "InceptionV3")
        kind = {"precision": self.precision}
        x = ConvNormReLU(32, 3, 2, name="Conv2d_1a_3x3", **kind)(x.astype(jnp.float32))
        x = ConvNormReLU(32, 3, name="Conv2d_2a_3x3", **kind)(x)
        x = ConvNormReLU(64, 3, 1, 1, name="Conv2d_2b_3x3", **kind)(x)
        pool1 = x = max_pool(x, 3, 2)
        x = ConvNormReLU(80, 1, name="Conv2d_3b_1x1", **kind)(x)
        x = ConvNormReLU(192, 3, name="Conv2d_4a_3x3", **kind)(x)
        pool2 = x = max_pool(x, 3, 2)
        for letter, features in (("b", 32), ("c", 64), ("d", 64)):
            x = Mixed(_BLOCK_A, features, name=f"Mixed_5{letter}", **kind)(x)
        x = Mixed(_BLOCK_B, name="Mixed_6a", **kind)(x)
        for letter, features in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            x = Mixed(_block_c(features), 192, name=f"Mixed_6{letter}", **kind)(x)
        mixed6 = x
        x = Mixed(_BLOCK_D, name="Mixed_7a", **kind)(x)
        x = MixedE(False, name="Mixed_7b", **kind)(x)
        x = MixedE(True, name="Mixed_7c", **kind)(x)
        pooled = x.mean(axis=(1, 2))
        logits = nn.Dense(self.num_classes, name="fc", **kind)(pooled)
        return InceptionTaps(pool1, pool2, mixed6, pooled, logits)

    def example_inputs(self, batch_size: int = 1) -> tuple[jax.Array, ...]:
        """Zeros of the smallest shape that `init` takes."""
        return (jnp.zeros((batch_size, LEAST_SIZE, LEAST_SIZE, 3)),)
