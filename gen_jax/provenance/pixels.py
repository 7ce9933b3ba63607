"""Digests of decoded pixels, which metadata and lossless copies leave as they are."""

import hashlib

import numpy as np

from gen_jax.data.photographs import photo_metadata, reading


def digest(image: bytes) -> str:
    """Returns the SHA-256 of the shape, the type and the values of an image file, with its alpha.

    Raises:
      ImageError: The file cannot be decoded.
    """
    photo = reading.read(image)
    planes = [photo.pixels] if photo.alpha is None else [photo.pixels, photo.alpha]
    pixels = np.concatenate(planes, axis=-1)
    state = hashlib.sha256(f"{pixels.shape} {pixels.dtype.name} ".encode())
    state.update(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")))
    return state.hexdigest()


def lost_metadata(before: bytes, after: bytes) -> list[str]:
    """Returns the names of the metadata that one image file has and another has not."""
    return photo_metadata.lost(reading.read(before).metadata, reading.read(after).metadata)
