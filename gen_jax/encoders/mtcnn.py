"""MTCNN's three networks (arXiv 1604.02878), as facenet-pytorch's files have them.

`evaluation.face_detection` runs them one after the other; here is what is learnt. Images are
RGB, brought from 0..255 to about [-1, 1] by `normalize`.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.encoders.frozen_layers import HIGHEST, conv, max_pool
from gen_jax.encoders.weights import Port

_KEEP = ("conv4_1", "conv4_2", "dense5_1", "dense5_2", "dense6_1", "dense6_2", "dense6_3")
PORT = Port(keep=_KEEP, rename=((r"\.slope$", ".weight"),))
"""Of each of the three files."""


class Proposals(NamedTuple):
    """What P-Net says of places, and R-Net of crops.

    Attributes:
      face: probability of a face, [b, h, w] or [b].
      box: corrections of left, top, right and bottom in widths and heights of the box, [..., 4].
    """

    face: jax.Array
    box: jax.Array


class Outputs(NamedTuple):
    """What O-Net says of crops.

    Attributes:
      face: probability of a face, [b].
      box: as of `Proposals`, [b, 4].
      points: x of five points and then y, in widths and heights of the box, [b, 10]: the eye on
        the left of the picture, that on the right, the nose, the mouth's left and right corner.
    """

    face: jax.Array
    box: jax.Array
    points: jax.Array


def normalize(images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Pixels 0..255 as the networks read them."""
    return (images - 127.5) * 0.0078125


class _PReLU(nn.Module):
    """Each channel's own slope below zero."""

    @nn.compact
    def __call__(self, x):
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],))
        slope = slope.reshape((1,) * (x.ndim - 1) + (-1,))
        return jnp.where(x > 0, x, slope * x)


def _pool(x, size, stride):
    return max_pool(x, size, stride, ceil=True)


class _Network(nn.Module):
    """What all three begin with: convolutions, slopes and pools; then a dense layer or none."""

    precision: Any = HIGHEST

    @property
    def port(self) -> Port:
        """How the file spells the parameters."""
        return PORT

    def _conv(self, x, index, features, size):
        x = conv(features, size, name=f"conv{index}", precision=self.precision)(x)
        return _PReLU(name=f"prelu{index}")(x)

    def _dense(self, name, features, x):
        return nn.Dense(features, precision=self.precision, name=name)(x)

    def _rows(self, x, index, features):
        # The files' dense layers read columns before rows, and channels last.
        x = x.swapaxes(1, 2).reshape(len(x), -1)
        x = self._dense(f"dense{index}", features, x)
        return _PReLU(name=f"prelu{index}")(x)


class PNet(_Network):
    """Proposes: at every place, whether a face of 12 pixels stands there."""

    def example_inputs(self) -> tuple[jax.Array, ...]:
        """Arguments for `init`."""
        return (jnp.zeros((1, 12, 12, 3)),)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Proposals:
        """Of normalised images, a place for every second pixel."""
        x = _pool(self._conv(x, 1, 10, 3), 2, 2)
        x = self._conv(self._conv(x, 2, 16, 3), 3, 32, 3)
        face = conv(2, 1, name="conv4_1", precision=self.precision)(x)
        box = conv(4, 1, name="conv4_2", precision=self.precision)(x)
        return Proposals(nn.softmax(face)[..., 1], box)


class RNet(_Network):
    """Refines: of crops of 24 pixels."""

    def example_inputs(self) -> tuple[jax.Array, ...]:
        """Arguments for `init`."""
        return (jnp.zeros((1, 24, 24, 3)),)

    @nn.compact
    def __call__(self, x: Float[Array, "b 24 24 3"]) -> Proposals:
        """Of normalised crops."""
        x = _pool(self._conv(x, 1, 28, 3), 3, 2)
        x = _pool(self._conv(x, 2, 48, 3), 3, 2)
        x = self._rows(self._conv(x, 3, 64, 2), 4, 128)
        face, box = self._dense("dense5_1", 2, x), self._dense("dense5_2", 4, x)
        return Proposals(nn.softmax(face)[..., 1], box)


class ONet(_Network):
    """The output: of crops of 48 pixels, with five points."""

    def example_inputs(self) -> tuple[jax.Array, ...]:
        """Arguments for `init`."""
        return (jnp.zeros((1, 48, 48, 3)),)

    @nn.compact
    def __call__(self, x: Float[Array, "b 48 48 3"]) -> Outputs:
        """Of normalised crops."""
        x = _pool(self._conv(x, 1, 32, 3), 3, 2)
        x = _pool(self._conv(x, 2, 64, 3), 3, 2)
        x = _pool(self._conv(x, 3, 64, 3), 2, 2)
        x = self._rows(self._conv(x, 4, 128, 2), 5, 256)
        face, box = self._dense("dense6_1", 2, x), self._dense("dense6_2", 4, x)
        return Outputs(nn.softmax(face)[..., 1], box, self._dense("dense6_3", 10, x))
