"""Images as the towers want them: their normalisation, and a resize that filters.

Inception has ways of its own, see `inception_inputs`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gen_jax.common import pixels
from gen_jax.common.errors import UserError
from gen_jax.encoders import clip, dinov2

STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": (dinov2.MEAN, dinov2.STD),
    "clip": (clip.MEAN, clip.STD),
    "signed": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Kind -> mean and deviation of the channels, for images in [0, 1]; "signed" is [-1, 1]."""

# How a tower's name begins (in lower case) -> its kind.
_KINDS = (
    ("clip", "clip"),
    ("dino", "imagenet"),
    ("inception", "signed"),
    ("lpips", "signed"),
    ("mobilenet", "signed"),
)


def kind_of(name: str) -> str:
    """The key of `STATISTICS` for a kind or for the name of a tower that takes images.

    Raises:
      UserError: a name that is neither.
    """
    if name in STATISTICS:
        return name
    for start, kind in _KINDS:
        if name.lower().startswith(start) and not name.endswith("-text"):
            return kind
    raise UserError(
        f"encoder {name!r} takes no images that are known here: expected a tower of images, or "
        f"{', '.join(STATISTICS)}"
    )


def unit(images: Array | np.ndarray) -> Float[Array, "*n h w c"]:
    """uint8 images, or floats in [0, 1], as float32 in [0, 1]."""
    if images.dtype == jnp.uint8:
        return pixels.to_unit(jnp.asarray(images))
    return jnp.asarray(images).astype(jnp.float32)


def normalize(images: Array | np.ndarray, name: str) -> Float[Array, "*n h w 3"]:
    """Subtracts the mean and divides by the deviation that a tower was trained with.

    Args:
      images: [..., h, w, 3] RGB, uint8 or float in [0, 1].
      name: of the tower ("dinov2-small"), or a kind: "imagenet", "clip", "signed".
    """
    mean, std = STATISTICS[kind_of(name)]
    x = unit(images)
    shape = (1,) * (x.ndim - 1) + (3,)
    mean, std = (jnp.asarray(v, jnp.float32).reshape(shape) for v in (mean, std))
    return (x - mean) / std


def resize(
    images: Array | np.ndarray, side: int | tuple[int, int]
) -> Float[Array, "*n new_h new_w c"]:
    """Antialiased bicubic, as Pillow's: Keys' kernel (a = -0.5), widened where it shrinks.

    Args:
      images: [..., h, w, c], uint8 or float in [0, 1].
      side: of the square that comes back, or its height and width.

    Returns:
      float32 in [0, 1], what overshoots cut off, not rounded.
    """
    x = unit(images)
    size = (side, side) if isinstance(side, int) else side
    if x.shape[-3:-1] == size:
        return x
    highest = jax.lax.Precision.HIGHEST
    shape = (*x.shape[:-3], *size, x.shape[-1])
    return jnp.clip(jax.image.resize(x, shape, "cubic", antialias=True, precision=highest), 0, 1)
