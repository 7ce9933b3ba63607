"""Image files that a user names beside a prompt: read whole, with errors in one line."""

import pathlib
from collections.abc import Sequence

import numpy as np

from gen_jax.common import checksum
from gen_jax.common.errors import UserError
from gen_jax.data import images


def read(path: str, under: str = "white") -> np.ndarray:
    """Returns the pixels of an image file, uint8 [h, w, 3].

    Args:
      path: The file.
      under: Color that shows through what is transparent: black in a mask, where white counts.

    Raises:
      UserError: It cannot be read.
    """
    try:
        pixels, _ = images.open_strict(pathlib.Path(path).read_bytes(), under)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; name an image file") from error
    except images.ImageError as error:
        raise UserError(f"{path}: {error}; name another image") from error
    return pixels


def facts(key: str, path: str) -> dict[str, str]:
    """Returns the name of a file and its digest, as a manifest has them under a key."""
    return {key: path, f"{key}_sha256": checksum.of_file(pathlib.Path(path))}


def facts_of_edits(images: Sequence[str], masks: Sequence[str]) -> list[dict[str, str]]:
    """Returns what manifests say of each image that is changed, and of its mask if it has one.

    Args:
      images: Files.
      masks: Files: none, one for all images, or one per image.
    """
    named = [facts("image", path) for path in images]
    known = [facts("mask", path) for path in masks]
    known = known * len(images) if len(masks) == 1 else known or [{}] * len(images)
    return [{**image, **mask} for image, mask in zip(named, known, strict=True)]
