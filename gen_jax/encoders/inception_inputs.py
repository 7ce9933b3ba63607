"""How images are brought to 299 x 299 before Inception: each FID has its own way.

The two differ by far more than runs do (arXiv 2104.11222): a score says which it took.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer
from PIL import Image

SIDE = 299


def pytorch_fid_inputs(images: Float[Array, "b h w 3"]) -> Float[Array, "b 299 299 3"]:
    """pytorch-fid's: bilinear between pixel centres, with no low-pass filter when it shrinks.

    Args:
      images: RGB in [0, 1].

    Returns:
      In [-1, 1], for `InceptionV3`.
    """
    shape = (images.shape[0], SIDE, SIDE, 3)
    x = jax.image.resize(images.astype(jnp.float32), shape, "bilinear", antialias=False)
    return 2 * x - 1


def clean_resize(
    image: Float[np.ndarray, "h w 3"] | Integer[np.ndarray, "h w 3"], side: int = SIDE
) -> Float[np.ndarray, "s s 3"]:
    """clean-fid's: Pillow's bicubic on each channel in float32, neither rounded nor clipped.

    Args:
      image: RGB in [0, 255].
      side: of the square that comes back.

    Returns:
      float32, [0, 255] with some overshoot.
    """
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., c], np.float32)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        for c in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def clean_fid_inputs(
    resized: Float[Array | np.ndarray, "b 299 299 3"],
) -> Float[Array, "b 299 299 3"]:
    """Scales `clean_resize`'s results as clean-fid does: (x - 128) / 128, for `InceptionV3`."""
    return (jnp.asarray(resized, jnp.float32) - 128) / 128
