"""Image formats by the ending of a file name, and which of them can be read here."""

import contextlib
import functools
import importlib

from PIL import Image, features

_ENDINGS = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2c", ".j2k", ".jpf", ".jpx"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pbm", ".pgm", ".pnm"),
    "QOI": (".qoi",),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
_CONVERT = "convert it to PNG or TIFF"
_DEVELOP = "develop it to TIFF or PNG"
_NEVER_READ = {
    **dict.fromkeys((".jxl", ".psd", ".xcf", ".exr", ".hdr"), _CONVERT),
    **dict.fromkeys(
        (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".raf", ".rw2"), _DEVELOP
    ),
}
# Decoders that a build of Pillow may lack, by the name that `PIL.features` has for them.
_DECODERS = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "WEBP": "webp"}
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"\0\0\0\x0cjP  ", ".jp2"),
)
HEAD = 12
"""Bytes that `ending_of_content` looks at."""


def register_plugins() -> None:
    """Lets Pillow open HEIF if the optional package pillow-heif is installed."""
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()


@functools.cache
def _problems() -> dict[str, str]:
    """Maps each known ending to what to do before it can be read, or "" if it can be read."""
    register_plugins()
    Image.init()
    found = dict(_NEVER_READ)
    for name, endings in _ENDINGS.items():
        decoder = _DECODERS.get(name)
        readable = name in Image.OPEN and (decoder is None or bool(features.check(decoder)))
        advice = "" if readable else f"install a Pillow that reads {name}"
        if name == "HEIF" and not readable:
            advice = "pip install pillow-heif"
        found |= dict.fromkeys(endings, advice)
    return found


@functools.cache
def readable() -> tuple[str, ...]:
    """Lists the endings that can be read here, in lower case with their dots."""
    return tuple(sorted(ending for ending, advice in _problems().items() if not advice))


def problem(name: str) -> str | None:
    """Judges a file by its ending, in upper or lower case.

    Returns:
      "" for an image that can be read, what to do for an image format that cannot be read here,
      and None for any other file. A name that is nothing but an ending has none.
    """
    stem, dot, ending = name.rpartition(".")
    return _problems().get(f".{ending.lower()}") if stem and dot else None


def ending_of_content(head: bytes) -> str | None:
    """Names the ending that fits the first `HEAD` bytes of a file; None if they are no image's."""
    for beginning, ending in _BEGINNINGS:
        if head.startswith(beginning):
            return ending
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif", b"avis"):
        return ".avif" if head[8:11] == b"avi" else ".heic"
    return None
