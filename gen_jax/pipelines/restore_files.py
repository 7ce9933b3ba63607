"""From a file to its restored file: what is written beside it, and why a file is skipped.

Nothing here loads JAX before the first image has been read.
"""

import contextlib
import dataclasses
import hashlib
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gen_jax.common import app, files, names, strict_json
from gen_jax.data import images
from gen_jax.data.degradations import PARAMETERS
from gen_jax.data.photographs import reading, sequences, writing
from gen_jax.data.photographs.reading import Photograph
from gen_jax.data.photographs.sequences import Frames
from gen_jax.data.text.instruction_parser import Understood
from gen_jax.pipelines import enlarged, restore_estimate, restore_outputs
from gen_jax.pipelines.restore_generative import Generative
from gen_jax.pipelines.restore_inputs import Job
from gen_jax.pipelines.restore_run import GIVEN
from gen_jax.runs import manifest

if TYPE_CHECKING:
    from gen_jax.pipelines.restoration import Restored, Restorer

_WIDEST = 1600  # of a comparison, in pixels
_ESTIMATED = 5  # frames of a file that its estimate is the median of


class Skipped(Exception):
    """A file that cannot be restored; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class How:
    """Settings of the restoration of each file.

    Attributes:
      prompt: Instruction; "" restores everything.
      strength: Share of the change that is applied, 0 to 1.
      scale: Whole factor to enlarge by.
      size: Width and height of the result, instead of a scale; None for those of the scale.
      given: Strengths by hand: name of `PARAMETERS` -> value in its unit.
      tile: Side of the tiles; 0 for none, None for the default.
      generative: What a generative stage adds; None for its default.
      quality: Quality of lossy formats, 1 to 100.
      compare: Whether comparisons are written.
      manifest: Whether manifests are written.
      max_pixels: Largest number of pixels of an input and of a result, all frames together.
    """

    prompt: str = ""
    strength: float | int = 1.0
    scale: int = 1
    size: tuple[int, int] | None = None
    given: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tile: int | None = None
    generative: Generative | None = None
    quality: int = 95
    compare: bool = True
    manifest: bool = True
    max_pixels: int = reading.MAX_PIXELS


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
    make: Callable[[], "Restorer"], job: Job, how: How, progress: Callable[[int, int], None]
) -> Iterator[str]:
    """Restores one file and writes it with its manifest and comparison.

    Args:
      make: Returns the restorer; called when the file has been read.
      job: The file and its result.
      how: Settings.
      progress: Called with the tiles done and their number, all frames together.

    Yields:
      Lines to print.

    Raises:
      Skipped: It cannot be read or written; nothing of it is left then.
    """
    read = _read(job, how)
    restorer = make()
    began = time.monotonic()  # what loading the model takes is not the file's
    restored, results = _restored(restorer, read.frames, how, progress)
    first = restored.photos[0]
    try:
        if len(restored.photos) > 1:
            encoded, lost = sequences.encode(restored, job.kind, how.quality)
        else:
            encoded, lost = writing.encode(first, job.kind, how.quality)
        if job.out is None:
            sys.stdout.buffer.write(encoded)
            sys.stdout.buffer.flush()
        else:
            facts = _facts(restorer, job, how, read, restored, results[0], encoded)
            facts["seconds"] = round(time.monotonic() - began, 2)
            shown = comparison(read.frames.photos[0], first) if how.compare else None
            _write(job.out, encoded, facts if how.manifest else None, shown)
    except writing.NotWritten as error:
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
    kind = job.kind
    try:
        data = sys.stdin.buffer.read() if job.source is None else job.source.read_bytes()
        first = reading.read(data, how.max_pixels)
        frames, notes = Frames((first,)), ()
        if first.frames > 1:
            if sequences.can_hold(first.kind, kind):
                frames = sequences.read(data, first, how.max_pixels)
            else:
                name = "pages" if first.kind == "TIFF" else "frames"
                notes = (f"has {first.frames} {name}: {kind} holds the first",)
        for photo in frames.photos:
            _check_size(photo.size, len(frames.photos), kind, how)
    except (images.ImageError, writing.NotWritten) as error:
        raise Skipped(str(error)) from None
    except OSError as error:
        raise Skipped(f"cannot be read ({error.strerror})") from None
    return _Read(data, frames, notes)


def _check_size(size: tuple[int, int], count: int, kind: str, how: How) -> None:
    """Checks that a result of `count` frames is neither too large nor enlarged too much."""
    scale = _scale(size, how)
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


def _scale(size: tuple[int, int], how: How) -> int:
    return how.scale if how.size is None else enlarged.scale_for(size, how.size)


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


def _restored(
    restorer: "Restorer", frames: Frames, how: How, progress: Callable[[int, int], None]
) -> tuple[Frames, list["Restored"]]:
    """Restores each frame by one estimate, so that frames do not flicker."""
    photos, estimate = frames.photos, None
    if len(photos) > 1 and restorer.understand(how.prompt).remove:
        chosen = np.unique(np.linspace(0, len(photos) - 1, _ESTIMATED).round().astype(int))
        estimate = restore_estimate.middle(
            [
                restorer.estimate(photos[i].pixels, _scale(photos[i].size, how), how.given)
                for i in chosen
            ]
        )
    restored, results = [], []
    for index, photo in enumerate(photos):
        scale = _scale(photo.size, how)
        result = restorer(
            photo.pixels,
            prompt=how.prompt,
            strength=how.strength,
            scale=scale,
            given=how.given,
            estimate=estimate,
            tile=how.tile,
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


def _write(out: pathlib.Path, encoded: bytes, facts: dict | None, shown: np.ndarray | None) -> None:
    """Writes a result with its manifest and comparison, if there are any: all of them, or none.

    Raises:
      NotWritten: What lies on the disk is not what was written.
      OSError: It cannot be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    contents = {out: encoded}
    if facts is not None:
        text = strict_json.dumps(facts, indent=2) + "\n"
        contents[restore_outputs.manifest_of(out)] = text.encode("utf-8")
    if shown is not None:
        contents[restore_outputs.comparison_of(out)] = images.encode(shown, "png")
    with contextlib.ExitStack() as stack:
        # Names are taken when all files are there.
        for path, content in contents.items():
            temporary = stack.enter_context(files.replacing(path))
            temporary.write_bytes(content)
            if temporary.read_bytes() != content:
                raise writing.NotWritten(f"{path} differs from what was written to it")


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


def _request(understood: Understood) -> dict:
    return {
        "summary": understood.summary,
        "remove": list(understood.remove),
        "keep": list(understood.keep),
        "amount": understood.amount,
        "notes": list(understood.notes),
    }


def _generated(restorer, how, result) -> dict:
    if not restorer.generates:
        return {}
    generative = how.generative or Generative()
    return {
        "generative": generative.amount,
        "seed": generative.seed,
        **restorer.model.task.sampling_settings(),
        "broken_tiles": result.num_broken,
    }


def _facts(restorer, job, how, read, restored, result, encoded) -> dict:
    from gen_jax.runs import reader

    photo = read.frames.photos[0]
    given = {GIVEN[name]: 100 - v if name == "jpeg" else v for name, v in how.given.items()}
    return {
        "input": names.key(str(job.source)) if job.source else None,
        "input_sha256": hashlib.sha256(read.data).hexdigest(),
        "output": names.key(job.out.name),
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "size": list(restored.photos[0].size),
        "frames": len(restored.photos),
        "depth": photo.depth,
        "run": reader.name_of(restorer.model),
        "checkpoint_step": restorer.model.step if restorer.model.step >= 0 else None,
        "weights_sha256": restorer.model.digest,
        "prompt": how.prompt,
        "understood": _request(result.understood),
        "strength": how.strength,
        **_generated(restorer, how, result),
        "scale": _scale(photo.size, how),
        "given": given,
        "tile": {None: "auto", 0: "off"}.get(how.tile, how.tile),
        "estimates": {k: round(result.told[k], 4) for k in PARAMETERS if k in result.told},
        "gate": result.gate,
        "environment": manifest.environment(),
    }


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
