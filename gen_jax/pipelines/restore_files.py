"""From a file to its restored file: what is written beside it, and why a file is skipped."""

import contextlib
import dataclasses
import hashlib
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image

from gen_jax.common import app, files, names
from gen_jax.data import images
from gen_jax.data.degradations import PARAMETERS
from gen_jax.data.photographs import reading, writing
from gen_jax.data.photographs.reading import Photograph
from gen_jax.pipelines import restore_outputs
from gen_jax.pipelines.restoration import Enlarged, Restored, Restorer
from gen_jax.pipelines.restore_inputs import Job
from gen_jax.provenance import environment, manifest, maps
from gen_jax.provenance.credentials import NotSigned
from gen_jax.provenance.recorder import Recorder
from gen_jax.runs import reader

_WIDEST = 1600  # of a comparison, in pixels


class Skipped(Exception):
    """A file that cannot be restored; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class How:
    """What to do with each picture: the flags of `gen_jax.restore`; tile as `Restorer` has it."""

    prompt: str = ""
    strength: float | int = 1.0
    scale: int = 1
    tile: int | None = None
    quality: int = 95
    compare: bool = True
    maps: bool = False
    max_pixels: int = reading.MAX_PIXELS


def restore(
    restorer: Restorer,
    job: Job,
    how: How,
    progress: Callable[[int, int], None],
    recorder: Recorder | None = None,
) -> Iterator[str]:
    """Restores one picture and writes it with its manifest and comparison.

    Args:
      restorer: The model.
      job: The file to read and the file to write.
      how: Settings.
      progress: Called with the number of tiles that are done and of all.
      recorder: Signs the result and makes what lies beside it; by default the manifest alone.

    Yields:
      Lines to print.

    Raises:
      Skipped: It cannot be read or written; nothing of it is left then.
    """
    began = time.monotonic()
    recorder = recorder or Recorder()
    kind = writing.format_of(job.out) if job.out else "PNG"
    try:
        data = sys.stdin.buffer.read() if job.source is None else job.source.read_bytes()
        photo = reading.read(data, how.max_pixels)
        width, height = (side * how.scale for side in photo.size)
        writing.check_size((width, height), kind)
    except (images.ImageError, writing.NotWritten) as error:
        raise Skipped(str(error)) from None
    except OSError as error:
        raise Skipped(f"cannot be read ({error.strerror})") from None
    if width * height > how.max_pixels:
        raise Skipped(f"scale={how.scale} makes it larger than max_pixels={how.max_pixels}")
    restored, result = enhance(restorer, photo, how, progress)
    try:
        encoded, lost = writing.encode(restored, kind, how.quality)
        facts = manifest.new("restore", _facts(restorer, job, how, photo, result, data))
        facts["seconds"] = round(time.monotonic() - began, 2)
        drawn = _maps(photo, how, encoded) if how.maps else ()
        place = job.out or pathlib.Path("-")
        output = recorder.finish(place, encoded, kind, facts, data, maps=drawn)
        if job.out is None:
            sys.stdout.buffer.write(output.image)
            sys.stdout.buffer.flush()
        else:
            contents = recorder.contents([output])
            if how.compare:
                shown = images.encode(comparison(photo, restored), "png")
                contents[restore_outputs.comparison_of(job.out)] = shown
            _write(contents)
    except (writing.NotWritten, NotSigned) as error:
        raise Skipped(f"nothing written: {error}") from None
    except OSError as error:
        raise Skipped(_words(error)) from None
    if notes := (*photo.notes, *lost):
        yield f"note: {job.shown}: {'; '.join(notes)}"
    yield (
        f"restored {job.shown} -> {names.printable(job.out or '-')}  {width}x{height}  "
        f"{time.monotonic() - began:.1f} s{_told(result)}"
    )


def enhance(
    restorer: Restorer, photo: Photograph, how: How, progress: Callable[[int, int], None]
) -> tuple[Photograph, Restored]:
    """Returns a restored photograph, before it is encoded, and what the model estimated."""
    result = restorer(
        photo.pixels,
        prompt=how.prompt,
        strength=how.strength,
        scale=how.scale,
        tile=how.tile,
        progress=progress,
    )
    alpha = None if photo.alpha is None else _enlarged(photo.alpha, how.scale)
    return photo.replace(pixels=result.pixels, alpha=alpha), result


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
    """Returns the edit map of a finished file and its preview."""
    # Enlarged as the input of the model is: what interpolation adds is no edit of the model.
    original = Enlarged(photo.pixels, how.scale)
    width = original.size[1]
    after = reading.read(encoded)
    return maps.edit_maps(lambda top, bottom: original(top, bottom, 0, width), after)


def _enlarged(alpha: np.ndarray, scale: int) -> np.ndarray:
    large = Enlarged(alpha, scale)
    part = large(0, large.size[0], 0, large.size[1])
    return np.round(part * np.iinfo(alpha.dtype).max).astype(alpha.dtype)


def _words(error: OSError) -> str:
    known = app.place_error(error)
    if known is not None:
        return str(known)
    if isinstance(error, FileNotFoundError):
        return "no such file; check its name"
    return f"{error.strerror or error}; check the file and its folder"


def _told(result: Restored) -> str:
    told = result.told
    parts = []
    if told.get("sigma", 0.0) >= 0.5:
        parts.append(f"noise {told['sigma']:.1f}/255")
    if told.get("shot", 0.0) >= 1.0:
        parts.append(f"photon noise {told['shot']:.1f}/255")
    if told.get("blur", 0.0) >= 0.3:
        parts.append(f"blur {told['blur']:.1f} px")
    if told.get("jpeg", 0.0) >= 10.0:
        parts.append(f"JPEG quality {100 - told['jpeg']:.0f}")
    if told.get("scale", 0.0) >= 0.2:
        parts.append(f"enlarged {2 ** told['scale']:.1f} times")
    if result.gate is not None:
        parts.append(f"correction {100 * result.gate:.0f}%")
    return f"  (estimated in the input: {', '.join(parts)})" if parts else ""


def _facts(restorer, job, how, photo, result, data) -> dict:
    told = {k: round(result.told[k], 4) for k in PARAMETERS if k in result.told}
    return {
        "input": names.key(str(job.source)) if job.source else None,
        "input_sha256": hashlib.sha256(data).hexdigest(),
        "output": names.key(job.out.name) if job.out else "-",
        "size": list(result.pixels.shape[1::-1]),
        "depth": photo.depth,
        "quality": how.quality,
        "run": reader.name_of(restorer.model),
        "checkpoint_step": restorer.model.step if restorer.model.step >= 0 else None,
        "weights_sha256": restorer.model.digest,
        "frozen_weights_sha256": dict(restorer.model.frozen_digests),
        "prompt": how.prompt,
        "strength": how.strength,
        "scale": how.scale,
        "tile": {None: "auto", 0: "off"}.get(how.tile, how.tile),
        "estimates": told,
        "gate": result.gate,
        "environment": environment.describe(),
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
