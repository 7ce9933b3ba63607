"""Images between the network and the model: uploads that may be anything, and PNG files."""

import io
import pathlib
import warnings

import numpy as np
from PIL import Image, ImageOps

from gen_jax.common import image_formats
from gen_jax.common.errors import UserError
from gen_jax.web.settings import WebSettings

# Larger sides add nothing to what the model sees, and slow its letterboxing down.
_WORKING_SIDE = 2048


def decode(data: bytes, settings: WebSettings) -> np.ndarray:
    """Returns an uploaded image, uint8 [h, w, 3], upright and over white.

    Args:
      data: Content of the file.
      settings: Limits of its bytes and pixels.

    Raises:
      UserError: The content is too large or no image that can be read here.
    """
    if len(data) > settings.max_upload_bytes:
        limit = settings.max_upload_bytes / 2**20
        raise UserError(
            f"the image has {len(data) / 2**20:.1f} MiB; expected at most {limit:g} MiB"
        )
    image_formats.register_plugins()
    try:
        with warnings.catch_warnings():
            # Pixels are limited below, before any is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > settings.max_upload_pixels:
                raise UserError(
                    f"the image has {image.width} x {image.height} pixels; expected at most "
                    f"{settings.max_upload_pixels / 1e6:g} million"
                )
            image.draft("RGB", (_WORKING_SIDE, _WORKING_SIDE))
            image = _eight_bits(ImageOps.exif_transpose(image))
            image.thumbnail((_WORKING_SIDE, _WORKING_SIDE))
            rgba = image.convert("RGBA")
    except Image.DecompressionBombError as error:
        raise UserError(
            f"the image has too many pixels; expected at most "
            f"{settings.max_upload_pixels / 1e6:g} million"
        ) from error
    except UserError:
        raise
    except Exception as error:  # decoders of damaged files raise errors of many types
        raise UserError(
            "the file is not an image that can be read here; expected PNG, JPEG or WebP"
        ) from error
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns a gray image of 16 bits with 8, where Pillow's own conversion would clip."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))


def read(path: str | None, settings: WebSettings) -> np.ndarray:
    """Returns the image of an uploaded file as `decode` does.

    Raises:
      UserError: There is no file, or `decode` refuses it.
    """
    if not path:
        raise UserError("there is no image yet; upload one first")
    # One byte beyond the limit is enough to refuse the file.
    with pathlib.Path(path).open("rb") as file:
        return decode(file.read(settings.max_upload_bytes + 1), settings)


def encode(image: np.ndarray) -> bytes:
    """Returns uint8 [h, w, 3] as PNG; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
