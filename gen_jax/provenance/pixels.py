"""Digests of decoded pixels, which metadata and lossless copies leave as they are."""

import hashlib

import numpy as np
from PIL import Image

from gen_jax.data.photographs import photo_metadata, reading
from gen_jax.data.photographs.reading import Photograph


def read(image: bytes) -> Photograph:
    """Decodes an image file.

    Raises:
      ImageError: The file cannot be decoded.
    """
    return reading.read(image)


def digest(photo: Photograph) -> str:
    """Returns the SHA-256 of the shape, the type and the values of an image, with its alpha."""
    planes = [photo.pixels] if photo.alpha is None else [photo.pixels, photo.alpha]
    pixels = np.concatenate(planes, axis=-1)
    state = hashlib.sha256(f"{pixels.shape} {pixels.dtype.name} ".encode())
    state.update(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")))
    return state.hexdigest()


def perceptual_hash(photo: Photograph) -> str:
    """Returns a hash of 64 bits that survives compression and scaling (pHash), hexadecimal."""
    import imagehash  # here, because it brings in scipy

    values = photo.pixels if photo.depth == 8 else (photo.pixels // 257).astype(np.uint8)
    return str(
        imagehash.phash(Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values))
    )


def lost_metadata(before: Photograph, after: Photograph) -> list[str]:
    """Returns the names of the metadata that one image has and another has not."""
    return photo_metadata.lost(before.metadata, after.metadata)
