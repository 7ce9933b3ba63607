"""Image files that a user names beside a prompt: read whole, with errors in one line."""

import pathlib

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data import images


def read(path: str) -> np.ndarray:
    """Returns the pixels of an image file, uint8 [h, w, 3].

    Raises:
      UserError: It cannot be read.
    """
    try:
        pixels, _ = images.open_strict(pathlib.Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; name an image file") from error
    except images.ImageError as error:
        raise UserError(f"{path}: {error}; name another image") from error
    return pixels
