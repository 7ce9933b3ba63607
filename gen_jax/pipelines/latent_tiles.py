"""Encoding and decoding of large images in overlapping tiles, in bounded memory.

The statistics of normalizations and the attention in the middle of an autoencoder are those of a
tile then, not of the whole image, so that colors may differ a little from an untiled image.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float, UInt8

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.pipelines import tiles

MAX_PIXELS = 1024 * 1024
"""Images of more pixels are encoded and decoded in tiles unless the side of tiles is given."""

TILE = 512
"""Side of their tiles, in pixels. Neighboring tiles share a quarter of it."""

_MAX_TILE = 8192

PredictFn = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def side_of_tiles(size: tuple[int, int], tile: int | None, factor: int) -> int:
    """Returns the side of the tiles of an image in latents, 0 for the whole image at once.

    Args:
      size: Width and height of the image in pixels.
      tile: Side in pixels, 0 for no tiles; None chooses.
      factor: Pixels per latent along each axis.

    Raises:
      UserError: The side is not a multiple of 4 latents.
    """
    if tile is None:
        # As a whole number of latents whatever the factor.
        tile = 0 if size[0] * size[1] <= MAX_PIXELS else -(-TILE // (4 * factor)) * 4 * factor
    numbers.parse(tile, "tile", int, 0, _MAX_TILE)
    if tile % (4 * factor):
        raise UserError(
            f"tile={tile}: expected 0, or a multiple of {4 * factor} (4 latents of {factor} pixels)"
        )
    return 0 if tile >= max(size) else tile // factor


def decode(
    run: PredictFn, latents: Float[np.ndarray, "n h w c"], tile: int, factor: int
) -> tuple[UInt8[np.ndarray, "n h2 w2 3"], Bool[np.ndarray, "n"]]:
    """Decodes latents.

    Args:
      run: The predict function "decode": "latent" -> "image", uint8, and "finite".
      latents: Latents of images of one size.
      tile: Side of the tiles in latents, 0 for whole images.
      factor: Pixels per latent along each axis.

    Returns:
      The images, and whether each is finite.
    """
    if not tile:
        out = run({"latent": latents})
        return np.asarray(out["image"]), np.asarray(out["finite"])
    height, width = latents.shape[1:3]
    images = np.empty((len(latents), factor * height, factor * width, 3), np.uint8)
    finite = np.ones(len(latents), bool)
    for index, latent in enumerate(latents):

        def forward(part, index=index):
            out = run({"latent": part})
            finite[index] &= np.asarray(out["finite"]).all()
            return np.float32(out["image"])

        def sink(first, rows, index=index):
            images[index, first : first + len(rows)] = rows.round().clip(0, 255)

        _apply(forward, latent, sink, tile, scale=factor)
    return images, finite


def encode(
    run: PredictFn, images: UInt8[np.ndarray, "n h w 3"], tile: int, factor: int
) -> Float[np.ndarray, "n h2 w2 c"]:
    """Encodes images; arguments as of `decode`, with the predict function "encode"."""
    if not tile:
        return np.asarray(run({"image": images})["latent"])
    latents = []
    for image in images:
        rows_of_latents = []
        # Each latent's square of pixels as channels: a tile then has one size in and out.
        height, width = (length // factor for length in image.shape[:2])
        folded = image.reshape(height, factor, width, factor, 3).transpose(0, 2, 1, 3, 4)

        def forward(part):
            n, h, w, _ = part.shape
            pixels = part.reshape(n, h, w, factor, factor, 3).transpose(0, 1, 3, 2, 4, 5)
            return run({"image": pixels.reshape(n, factor * h, factor * w, 3)})["latent"]

        def sink(first, rows, into=rows_of_latents):
            into.append(rows.copy())

        _apply(forward, folded.reshape(height, width, -1), sink, tile)
        latents.append(np.concatenate(rows_of_latents))
    return np.stack(latents)


def _apply(forward, array, sink, tile, scale=1):
    def source(top, bottom, left, right):
        return array[top:bottom, left:right]

    tiles.apply(
        forward,
        source,
        array.shape[:2],
        sink,
        tile=tile,
        overlap=tile // 4,
        multiple=1,
        scale=scale,
    )
