"""PNG as a list of chunks (https://www.w3.org/TR/png-3): what Pillow and OpenCV cannot write.

Pillow writes 8 bits per channel, OpenCV no gray with alpha and no text; neither keeps the other
chunks of a file.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8, UInt16

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Chunk = tuple[bytes, bytes]
"""Type and data."""

_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> IHDR's color type
_BAND = 1 << 22  # bytes that are filtered at a time


def split(data: bytes) -> Iterator[Chunk]:
    """Yields a file's chunks in order; ends early if the file does."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def encode(
    pixels: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"], chunks: Sequence[Chunk] = ()
) -> bytes:
    """Encodes pixels with other chunks beside them.

    Args:
      pixels: 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGBA) channels.
      chunks: Chunks between IHDR and IDAT, such as `profile`, `resolution` and text.

    Returns:
      The file.
    """
    height, width, channels = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, bits, _COLOR_TYPES[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), *chunks, (b"IDAT", _compressed(pixels)), (b"IEND", b"")]
    return SIGNATURE + b"".join(_joined(*chunk) for chunk in chunks)


def profile(icc: bytes) -> Chunk:
    """Returns the iCCP chunk of a color profile."""
    return b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)


def resolution(dpi: tuple[float, float]) -> Chunk:
    """Returns the pHYs chunk of pixels per inch in x and y."""
    return b"pHYs", struct.pack(">IIB", *(round(d / 0.0254) for d in dpi), 1)


def international_text(keyword: str, text: bytes) -> Chunk:
    """Returns an iTXt chunk of UTF-8 text."""
    return b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text


def keyword(chunk: Chunk) -> str:
    """Returns the keyword of a text chunk."""
    return chunk[1].split(b"\0", 1)[0].decode("latin-1")


def _joined(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _compressed(pixels: np.ndarray) -> bytes:
    """Returns the zlib stream of all rows, each filtered by Paeth's predictor."""
    height, width, channels = pixels.shape
    step = channels * pixels.dtype.itemsize  # bytes per pixel
    # Bytes in network order with a pixel of zeros on the left and a row of zeros above, as the
    # filter reads beyond the image.
    rows = np.zeros((height + 1, (width + 1) * step), np.uint8)
    rows[1:, step:] = (
        pixels.astype(pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    )
    compressor, out = zlib.compressobj(6), []
    band = max(1, _BAND // rows.shape[1])
    for top in range(1, height + 1, band):
        here = rows[top : top + band]
        above = rows[top - 1 : top - 1 + len(here)]
        filtered = np.full((len(here), 1 + width * step), 4, np.uint8)  # 4 is Paeth
        filtered[:, 1:] = here[:, step:] - _paeth(
            here[:, :-step], above[:, step:], above[:, :-step]
        )
        out.append(compressor.compress(filtered.tobytes()))
    return b"".join([*out, compressor.flush()])


def _paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Predicts bytes as whichever neighbor is nearest to left + above - corner."""
    a, b, c = (x.astype(np.int16) for x in (left, above, corner))
    to_left, to_above, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest_is_left = (to_left <= to_above) & (to_left <= to_corner)
    return np.where(nearest_is_left, left, np.where(to_above <= to_corner, above, corner))
