"""Animations and files of several pages: all frames in, and all frames out."""

import dataclasses
import io
import pathlib
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from gen_jax.common.image_formats import register_plugins
from gen_jax.data.images import ImageError
from gen_jax.data.photographs import photo_metadata, reading, tiff, writing
from gen_jax.data.photographs.photo_metadata import Metadata
from gen_jax.data.photographs.reading import Photograph

KINDS = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
"""Formats whose frames are all read and written."""

_TIMED = ("GIF", "PNG", "WEBP", "AVIF")
_GIF_STEP = 10  # milliseconds


@dataclasses.dataclass(frozen=True)
class Frames:
    """The frames of an animation, or the pages of a file.

    Attributes:
      photos: One per frame or page; the first has the metadata of the file.
      durations: Milliseconds that each frame is shown; empty for pages.
      loop: Number of repetitions, 0 for endless; None if the file states none.
      has_poster: Whether the first frame of a PNG file stands in for the animation only where
        animations are not shown.
    """

    photos: tuple[Photograph, ...]
    durations: tuple[float, ...] = ()
    loop: int | None = None
    has_poster: bool = False


def can_hold(kind: str, other: str) -> bool:
    """Returns whether all frames of a file of one format are written to another.

    Args:
      kind: Format of the input.
      other: Format of the result. Pages have no durations, so only TIFF holds them.
    """
    return kind in KINDS and other in KINDS and (kind != "TIFF" or other == "TIFF")


def is_sequence(path: pathlib.Path) -> bool:
    """Returns whether a file holds several frames or pages that are all restored."""
    register_plugins()
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            return image.format in KINDS and getattr(image, "n_frames", 1) > 1
    except Exception:  # a damaged file makes Pillow raise nearly anything; reading it names it
        return False


def read(data: bytes, first: Photograph, max_pixels: int) -> Frames:
    """Decodes all frames of a file.

    Args:
      data: The whole file.
      first: Its first frame, as `reading.read` gives it, of a kind in `KINDS`.
      max_pixels: Files with more pixels in all their frames are refused.

    Raises:
      ImageError: A frame is damaged, or the frames are too large.
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")
            if first.kind == "TIFF":
                return Frames(tuple(_pages(image, data, first, max_pixels)))
            count, pixels = image.n_frames, image.width * image.height
            if count * pixels > max_pixels:
                raise ImageError(
                    "too large",
                    f"{count} frames of {image.width}x{image.height} pixels, at most {max_pixels} "
                    "pixels are read; cut it up",
                )
            return _animation(image, first)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("corrupt", " ".join(str(error).split())[:120]) from None


def _animation(image: Image.Image, first: Photograph) -> Frames:
    arrays, durations = [], []
    loop, has_poster = image.info.get("loop"), bool(getattr(image, "default_image", False))
    for index in range(image.n_frames):
        image.seek(index)
        image.load()
        durations.append(float(image.info.get("duration", 0.0) or 0.0))
        arrays.append(np.asarray(image.convert("RGBA")))
    is_gray = first.pixels.shape[-1] == 1 and all(_is_gray(a) for a in arrays)
    is_opaque = all(a[..., 3].min() == 255 for a in arrays)
    photos = tuple(
        Photograph(
            np.ascontiguousarray(a[..., :1] if is_gray else a[..., :3]),
            None if is_opaque else np.ascontiguousarray(a[..., 3:]),
            first.metadata if index == 0 else Metadata(),
            first.kind,
            first.lossless,
            notes=first.notes if index == 0 else (),
        )
        for index, a in enumerate(arrays)
    )
    return Frames(photos, tuple(durations), loop, has_poster)


def _is_gray(pixels: np.ndarray) -> bool:
    return bool((pixels[..., :1] == pixels[..., 1:3]).all())


def _pages(
    image: Image.Image, data: bytes, first: Photograph, max_pixels: int
) -> Iterator[Photograph]:
    """Yields the pages of a TIFF file, each of its own size and depth."""
    left = max_pixels - first.pixels[..., 0].size
    yield first
    for index in range(1, image.n_frames):
        image.seek(index)
        left -= image.width * image.height
        if left < 0:
            detail = f"more than {max_pixels} pixels in {image.n_frames} pages; cut it up"
            raise ImageError("too large", detail)
        if tiff.is_needed(image.tag_v2):
            page = tiff.read(data, max_pixels, index)
            yield Photograph(page.pixels, page.alpha, kind="TIFF", notes=page.notes)
            continue
        image.load()
        yield reading.of_page(image)


def encode(frames: Frames, kind: str, quality: int = 95) -> tuple[bytes, tuple[str, ...]]:
    """Encodes frames, and decodes the bytes again to see that they hold them.

    Args:
      frames: At least two.
      kind: One of `KINDS`.
      quality: Quality of lossy WebP and AVIF, 1 to 100.

    Returns:
      The file's bytes, and what they do not hold, one phrase each.

    Raises:
      NotWritten: What was decoded again is not what was encoded.
    """
    notes: list[str] = []
    photos = []
    for photo in frames.photos:
        metadata = photo_metadata.resized(photo.metadata, photo.size)
        # Animations hold 8 bits per channel in every format.
        reduced, lost = writing.reduced(photo.replace(metadata=metadata), kind, kind != "TIFF")
        photos.append(reduced)
        notes += [note for note in lost if note not in notes]
    if kind == "GIF":
        notes.append("GIF holds 256 colors per frame")
        photos, is_cut = zip(*map(_with_binary_alpha, photos))
        notes += ["GIF holds no partial transparency"] if any(is_cut) else []
    if kind == "TIFF":
        data = tiff.encode_pages([writing.with_alpha(p) for p in photos], photos[0].metadata)
    else:
        if len({photo.size for photo in photos}) > 1:
            raise writing.NotWritten(f"{kind} holds frames of one size only; write TIFF")
        data = _animated(photos, frames, kind, quality)
    notes += _on_time(frames, kind) if frames.durations else ()
    lost = _check(data, photos, frames, kind)
    if lost:
        notes.append(f"{kind} does not keep {', '.join(lost)}")
    return data, tuple(notes)


def _with_binary_alpha(photo: Photograph) -> tuple[Photograph, bool]:
    """Returns a frame whose pixels are opaque or clear, and whether that changed any."""
    if photo.alpha is None:
        return photo, False
    alpha = np.where(photo.alpha < 128, 0, 255).astype(np.uint8)
    return photo.replace(alpha=alpha), not np.array_equal(alpha, photo.alpha)


def _animated(photos: Sequence[Photograph], frames: Frames, kind: str, quality: int) -> bytes:
    images = [Image.fromarray(writing.with_alpha(p, kind != "PNG")) for p in photos]
    first, metadata = photos[0], photos[0].metadata
    durations = list(frames.durations) or [0.0] * len(photos)
    # A GIF file that states no number is played once, other formats without end.
    loop = int(first.kind == "GIF") if frames.loop is None else frames.loop
    options = {"duration": [round(value) for value in durations], "loop": loop}
    icc = writing.fitting_profile(metadata.icc, first.pixels.shape[-1] < 3)
    options |= {"icc_profile": icc, "exif": metadata.exif, "xmp": metadata.xmp}
    if kind == "GIF":
        options |= {"disposal": 2, "optimize": False, "comment": metadata.comment, "exif": None}
        options |= {"loop": frames.loop}
    elif kind == "PNG":
        has_poster = frames.has_poster
        options |= {"default_image": has_poster, "disposal": 0, "blend": 0}
        options["duration"] = options["duration"][has_poster:]
        options["dpi"] = metadata.dpi
    elif kind == "WEBP":
        options |= {"quality": quality, "lossless": first.lossless, "exact": first.lossless}
    else:
        options |= {"quality": quality, "subsampling": "4:4:4"}
        options["exif"] = photo_metadata.without_orientation(metadata.exif)
        options.pop("loop")
    buffer = io.BytesIO()
    options = {k: v for k, v in options.items() if v is not None}
    images[0].save(buffer, kind, save_all=True, append_images=images[1:], **options)
    return buffer.getvalue()


def _visible(photo: Photograph) -> Photograph:
    """Returns a frame that is black where it is clear: GIF keeps no colors there."""
    if photo.alpha is None:
        return photo
    return photo.replace(
        pixels=np.where(photo.alpha == 0, photo.pixels.dtype.type(0), photo.pixels)
    )


def _on_time(frames: Frames, kind: str) -> Iterator[str]:
    """Yields notes on durations and repetitions that a format cannot hold."""
    if kind == "GIF" and any(value % _GIF_STEP for value in frames.durations):
        yield f"GIF holds durations in steps of {_GIF_STEP} ms"
    if kind == "TIFF":
        yield "TIFF does not keep durations"
    if kind == "AVIF" and frames.loop not in (None, 0):
        yield "AVIF does not keep the number of repetitions"


def _check(data: bytes, photos: Sequence[Photograph], frames: Frames, kind: str) -> list[str]:
    """Decodes a written file; returns names of the metadata that it does not hold."""
    limit = sum(photo.pixels[..., 0].size for photo in photos)
    try:
        again = reading.read(data, limit)
        is_single = again.frames == 1  # all frames were equal
        written = Frames((again,)) if is_single else read(data, again, limit)
    except ImageError as error:
        raise writing.NotWritten(f"the {kind} file cannot be read back: {error}") from None
    is_exact = kind in ("PNG", "TIFF") or (kind == "WEBP" and photos[0].lossless)
    if len(written.photos) == len(photos):
        for meant, other in zip(photos, written.photos):
            writing.compare(_visible(meant), _visible(other), kind, is_exact)
    elif kind == "TIFF" or (not is_single and len(written.photos) > len(photos)):
        raise writing.NotWritten(f"the {kind} file has other frames than were written")
    # Equal frames in a row are joined, and their durations with them.
    step = _GIF_STEP if kind == "GIF" else 1
    longer = sum(frames.durations) - sum(written.durations)
    if kind in _TIMED and not is_single and abs(longer) > step * len(photos):
        raise writing.NotWritten(f"the {kind} file has other durations than were written")
    return photo_metadata.lost(photos[0].metadata, again.metadata)
