"""From a file to its restored file: what is written beside it, and why a file is skipped.

Nothing here loads JAX before the first image has been read.
"""

import contextlib
import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from gen_jax.common import app, files, names
from gen_jax.data import images
from gen_jax.data.photographs import reading, sequences, writing
from gen_jax.data.photographs.reading import Photograph
from gen_jax.data.photographs.sequences import Frames
from gen_jax.pipelines import enlarged, restore_estimate, restore_outputs, restore_settings
from gen_jax.pipelines.restore_inputs import Job
from gen_jax.pipelines.restore_settings import How
from gen_jax.provenance import manifest, maps
from gen_jax.provenance.credentials import NotSigned
from gen_jax.provenance.recorder import Recorder

if TYPE_CHECKING:
    from gen_jax.pipelines.error_map import ErrorEstimator
    from gen_jax.pipelines.restoration import Restored, Restorer

_WIDEST = 1600  # of a comparison, in pixels
_ESTIMATED = 5  # frames of a file that its estimate is the median of


class Skipped(Exception):
    """A file that cannot be restored; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class _Read:
    """A file in memory.

    Attributes:
      data: Its bytes.
      frames: One photograph, or the frames of an animation, or pages.
      notes: What is not restored of it.
    """

    data: bytes
    frames: Frames
    notes: tuple[str, ...] = ()


def check(job: Job, how: How) -> None:
    """Looks at the beginning of a file.

    Raises:
      Skipped: It is no image, or too large for the settings.
    """
    if job.source is None:
        return
    try:
        size = reading.check(job.source, how.max_pixels)
        if size[0]:
            _check_size(size, 1, job.kind, how)
    except (images.ImageError, writing.NotWritten) as error:
        raise Skipped(str(error)) from None
    except OSError as error:
        raise Skipped(f"cannot be read ({error.strerror})") from None


def restore(
    make: Callable[[], "Restorer"],
    job: Job,
    how: How,
    progress: Callable[[int, int], None],
    recorder: Recorder | None = None,
    expect: Callable[["Restorer"], "ErrorEstimator"] | None = None,
) -> Iterator[str]:
    """Restores one file and writes it with its manifest and comparison.

    Args:
      make: Returns the restorer; called when the file has been read.
      job: The file and its result.
      how: Settings.
      progress: Called with the tiles done and their number, all frames together.
      recorder: Signs the result and makes what lies beside it; by default the manifest alone.
      expect: Returns what expects the error of a restorer's images; None for no error map.

    Yields:
      Lines to print.

    Raises:
      Skipped: It cannot be read or written; nothing of it is left then.
    """
    recorder = recorder or Recorder()
    read = _read(job, how)
    restorer = make()
    began = time.monotonic()  # what loading the model takes is not the file's
    restored, results = enhance(restorer, read.frames, how, progress)
    first = restored.photos[0]
    try:
        encoded, lost = encode(restored, job.kind, how.quality)
        facts = restore_settings.facts(
            restorer, job, how, read.data, read.frames, restored, results[0]
        )
        facts = manifest.new("restore", facts)
        facts["seconds"] = round(time.monotonic() - began, 2)
        drawn = _maps(read.frames.photos[0], how, encoded) if how.maps else []
        if how.maps and expect is not None:
            photo, estimator = read.frames.photos[0], expect(restorer)
            error = estimator(photo.pixels, results[0], how.scale_of(photo.size))
            facts["calibration"] = estimator.calibration
            threshold = (estimator.calibration or {}).get("threshold")
            drawn += maps.error_maps(_sized(error, how), threshold)
        place = job.out or pathlib.Path("-")
        output = recorder.finish(place, encoded, job.kind, facts, read.data, maps=drawn)
        if job.out is None:
            sys.stdout.buffer.write(output.image)
            sys.stdout.buffer.flush()
        else:
            contents = recorder.contents([output]) if how.manifest else {job.out: output.image}
            if how.compare:
                shown = images.encode(comparison(read.frames.photos[0], first), "png")
                contents[restore_outputs.comparison_of(job.out)] = shown
            _write(contents)
    except (writing.NotWritten, NotSigned) as error:
        raise Skipped(f"nothing written: {error}") from None
    except OSError as error:
        raise Skipped(_words(error)) from None
    photos = read.frames.photos
    notes = (*read.notes, *_stretched(photos[0].size, how), *photos[0].notes, *lost)
    notes = (*notes, *_broken(results))
    if notes:
        yield f"note: {job.shown}: {'; '.join(notes)}"
    size = f"{first.size[0]}x{first.size[1]}"
    if len(photos) > 1:
        size += f", {len(photos)} {'frames' if read.frames.durations else 'pages'}"
    yield (
        f"restored {job.shown} -> {names.printable(job.out or '-')}  {size}  "
        f"{time.monotonic() - began:.1f} s{_understood(results[0], how)}{_told(results[0], how)}"
    )


def _read(job: Job, how: How) -> _Read:
    """Reads and decodes a file, all frames if its result can hold them."""
    try:
        data = sys.stdin.buffer.read() if job.source is None else job.source.read_bytes()
        frames, notes = frames_of(data, job.kind, how.max_pixels)
        for photo in frames.photos:
            _check_size(photo.size, len(frames.photos), job.kind, how)
    except (images.ImageError, writing.NotWritten) as error:
        raise Skipped(str(error)) from None
    except OSError as error:
        raise Skipped(f"cannot be read ({error.strerror})") from None
    return _Read(data, frames, notes)


def frames_of(data: bytes, kind: str, max_pixels: int) -> tuple[Frames, tuple[str, ...]]:
    """Decodes a file, all frames if its result can hold them, and says what is left out.

    Args:
      data: The file.
      kind: Pillow's name of the format of the result.
      max_pixels: Largest number of pixels.
    """
    first = reading.read(data, max_pixels)
    if first.frames == 1:
        return Frames((first,)), ()
    if sequences.can_hold(first.kind, kind):
        return sequences.read(data, first, max_pixels), ()
    name = "pages" if first.kind == "TIFF" else "frames"
    return Frames((first,)), (f"has {first.frames} {name}: {kind} holds the first",)


def encode(frames: Frames, kind: str, quality: int) -> tuple[bytes, tuple[str, ...]]:
    """Encodes frames as a file.

    Returns:
      The file, and what it cannot keep.

    Raises:
      NotWritten: The format cannot hold it.
    """
    if len(frames.photos) > 1:
        return sequences.encode(frames, kind, quality)
    return writing.encode(frames.photos[0], kind, quality)


def _check_size(size: tuple[int, int], count: int, kind: str, how: How) -> None:
    """Checks that a result of `count` frames is neither too large nor enlarged too much."""
    scale = how.scale_of(size)
    if scale > enlarged.LARGEST:
        width, height = how.size
        raise Skipped(
            f"size={width}x{height} is more than {enlarged.LARGEST} times its {size[0]}x{size[1]} "
            "pixels; name a smaller size"
        )
    width, height = (side * scale for side in size)
    writing.check_size(how.size or (width, height), kind)
    if width * height * count > how.max_pixels:
        option = f"scale={scale}" if how.size is None else f"size={how.size[0]}x{how.size[1]}"
        raise Skipped(f"{option} makes it larger than max_pixels={how.max_pixels}")


def _stretched(size: tuple[int, int], how: How) -> Iterator[str]:
    if how.size is None:
        return
    (width, height), (new_width, new_height) = size, how.size
    # What rounding to whole pixels does is no change of proportions.
    if abs(new_width * height - new_height * width) > max(width, height) * 0.51:
        yield f"size={new_width}x{new_height} changes its proportions from {width}x{height}"


def _broken(results: list["Restored"]) -> Iterator[str]:
    if count := sum(result.num_broken for result in results):
        yield (
            f"the generated image of {count} tile{'s' * (count > 1)} was not finite, constant or "
            "far from the restored one, which took its place"
        )


def enhance(
    restorer: "Restorer", frames: Frames, how: How, progress: Callable[[int, int], None]
) -> tuple[Frames, list["Restored"]]:
    """Restores each frame by one estimate, so that frames do not flicker.

    Returns:
      The frames before they are encoded, and what the model estimated in each.
    """
    photos, estimate = frames.photos, None
    if len(photos) > 1 and restorer.understand(how.prompt).remove:
        chosen = np.unique(np.linspace(0, len(photos) - 1, _ESTIMATED).round().astype(int))
        estimate = restore_estimate.middle(
            [
                restorer.estimate(
                    photos[i].pixels,
                    how.scale_of(photos[i].size),
                    how.given,
                    _least(photos[i], how),
                )
                for i in chosen
            ]
        )
    restored, results = [], []
    for index, photo in enumerate(photos):
        scale = how.scale_of(photo.size)
        result = restorer(
            photo.pixels,
            prompt=how.prompt,
            strength=how.strength,
            scale=scale,
            given=how.given,
            least=_least(photo, how),
            estimate=estimate,
            tile=how.tile,
            symmetries=how.symmetries,
            generative=how.generative,
            progress=lambda done, total, index=index: progress(
                index * total + done, len(photos) * total
            ),
        )
        size = how.size or tuple(side * scale for side in photo.size)
        alpha = photo.alpha
        if alpha is not None:
            alpha = enlarged.resized(enlarged.Enlarged(alpha, scale).whole(), size)
        pixels = enlarged.resized(result.pixels, size)
        restored.append(photo.replace(pixels=pixels, alpha=alpha))
        results.append(result)
    return dataclasses.replace(frames, photos=tuple(restored)), results


def _least(photo: Photograph, how: How) -> dict[str, float]:
    """Returns the strengths that a file states: the compression that it was last saved with.

    An estimate may be higher, of a file that was saved at a lower quality before. The blocks of an
    enlarged image are no longer those that the network knows.
    """
    if photo.jpeg_quality is None or how.scale_of(photo.size) > 1:
        return {}
    return {"jpeg": 100.0 - photo.jpeg_quality}


def _write(contents: Mapping[pathlib.Path, bytes]) -> None:
    """Writes a result and what lies beside it: all files, or none.

    Raises:
      NotWritten: What lies on the disk is not what was written.
      OSError: It cannot be written.
    """
    for path in contents:
        path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        # Names are taken when all files are there.
        for path, content in contents.items():
            temporary = stack.enter_context(files.replacing(path))
            temporary.write_bytes(content)
            if temporary.read_bytes() != content:
                raise writing.NotWritten(f"{path} differs from what was written to it")


def _maps(photo: Photograph, how: How, encoded: bytes) -> list[maps.Map]:
    """Returns the edit map of a finished file, of its first frame, and a preview."""
    # Resized as the input of the model is: what interpolation adds is no edit of the model.
    original = enlarged.Enlarged(photo.pixels, how.scale_of(photo.size))
    if how.size is not None:
        original = enlarged.Enlarged(enlarged.resized(original.whole(), how.size), 1)
    width = original.size[1]
    after = reading.read(encoded)
    return maps.edit_maps(lambda top, bottom: original(top, bottom, 0, width), after)


def _sized(error: np.ndarray, how: How) -> np.ndarray:
    """Returns an error map at the size of the result."""
    if how.size is None:
        return error
    return cv2.resize(error, how.size, interpolation=cv2.INTER_AREA)


def _words(error: OSError) -> str:
    known = app.place_error(error)
    if known is not None:
        return str(known)
    if isinstance(error, FileNotFoundError):
        return "no such file; check its name"
    return f"{error.strerror or error}; check the file and its folder"


def _told(result: "Restored", how: How) -> str:
    told = result.told
    shown = (
        ("sigma", 0.5, lambda v: f"noise {v:.1f}/255"),
        ("shot", 1.0, lambda v: f"photon noise {v:.1f}/255"),
        ("blur", 0.3, lambda v: f"blur {v:.1f} px"),
        ("jpeg", 10.0, lambda v: f"JPEG quality {100 - v:.0f}"),
        ("scale", 0.2, lambda v: f"enlarged {2**v:.1f} times"),
    )
    parts = []
    for name, least, words in shown:
        is_given = name in how.given and name in told
        if is_given or told.get(name, 0.0) >= least:
            parts.append(words(told[name]) + (" by hand" if is_given else ""))
    if result.gate is not None:
        parts.append(f"correction {100 * result.gate:.0f}%")
    return f"  (estimated in the input: {', '.join(parts)})" if parts else ""


def _understood(result: "Restored", how: How) -> str:
    return f"  (understood: {result.understood.summary})" if how.prompt else ""


def comparison(before: Photograph, after: Photograph) -> np.ndarray:
    """Before and after side by side if they are narrow, else a half of each; uint8 RGB."""
    height, width = after.pixels.shape[:2]
    first, second = (_shown(p, (width, height)) for p in (before, after))
    if 2 * width <= _WIDEST:
        return np.concatenate([first, second], 1)
    middle = first.shape[1] // 2
    joined = np.concatenate([first[:, :middle], second[:, middle:]], 1)
    joined[:, middle] = 255
    return joined


def _shown(photo: Photograph, size: tuple[int, int]) -> np.ndarray:
    pixels = photo.pixels if photo.depth == 8 else (photo.pixels // 257).astype(np.uint8)
    rgb = Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))
    factor = min(1.0, _WIDEST / size[0])
    small = tuple(max(1, round(side * factor)) for side in size)
    return np.asarray(rgb if rgb.size == small else rgb.resize(small, Image.Resampling.BICUBIC))
