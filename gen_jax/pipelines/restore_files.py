"""From files to restored files: which become which, what lies beside them, what is skipped."""

import dataclasses
import glob
import hashlib
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from gen_jax.common import app, files, pictures, strict_json
from gen_jax.common.errors import UserError
from gen_jax.data import images, photograph_files, photographs
from gen_jax.data.degradations import PARAMETERS
from gen_jax.data.photographs import Photograph
from gen_jax.pipelines.restoration import Enlarged, Restored, Restorer
from gen_jax.runs import manifest

_WIDEST = 1600  # of a comparison, in pixels
# What this door writes beside a result: not to be restored in its turn.
COMPARISON = ".before_after.png"


class Skipped(Exception):
    """A file that cannot be restored; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One picture.

    Attributes:
      source: its file; None for standard input.
      out: file to write; None for standard output.
    """

    source: pathlib.Path | None
    out: pathlib.Path | None

    @property
    def shown(self) -> str:
        """What to call it."""
        return str(self.source) if self.source else "standard input"


@dataclasses.dataclass(frozen=True)
class How:
    """What to do with each picture: the flags of `gen_jax.restore`; tile as `Restorer` has it."""

    prompt: str = ""
    strength: float | int = 1.0
    scale: int = 1
    tile: int | None = None
    quality: int = 95
    compare: bool = True
    max_pixels: int = photographs.MAX_PIXELS


def plan(inputs: Sequence[str], out: str) -> list[Job]:
    """Which file becomes which.

    Args:
      inputs: files, folders, patterns, or "-".
      out: a file, a folder (where it is one, ends in a slash, or several pictures come), or "-";
        "" for NAME_restored beside the one picture or folder.

    Raises:
      UserError: nothing to do, or one output for several pictures.
    """
    if not inputs:
        raise UserError("name pictures to restore: files, folders or patterns; see --help")
    if not out:
        if len(inputs) > 1 or "-" in inputs:
            raise UserError("--out is missing: name a file, or a folder for several")
        out = str(_default(pathlib.Path(inputs[0])))
    if "-" in inputs:
        if len(inputs) > 1:
            raise UserError("-: standard input is one picture; name no others beside it")
        if out == "-":
            return [Job(None, None)]
        path = pathlib.Path(out)
        photograph_files.format_of(path)
        return [Job(None, path)]
    found: list[tuple[pathlib.Path, pathlib.Path]] = []  # and its path below the output folder
    folders = False
    for name in inputs:
        path = pathlib.Path(name)
        if path.is_dir():
            folders = True
            below = [p for p in sorted(path.rglob("*")) if p.is_file() and _is_picture(p)]
            if not below:
                raise UserError(f"{name}: holds no picture ({', '.join(images.EXTENSIONS)})")
            found += [(p, p.relative_to(path)) for p in below]
        elif any(c in name for c in "*?[") and not path.exists():
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                raise UserError(f"{name}: no file fits this pattern")
            folders = True
            found += [(pathlib.Path(m), pathlib.Path(pathlib.Path(m).name)) for m in matches]
        else:
            found.append((path, pathlib.Path(path.name)))
    if not any(p.exists() for p, _ in found):
        raise UserError(f"{found[0][0]}: no such file; check its name")
    into_folder = folders or len(found) > 1 or out.endswith(os.sep) or pathlib.Path(out).is_dir()
    if out == "-":
        if into_folder:
            raise UserError("--out=-: standard output holds one picture; name a folder")
        return [Job(found[0][0], None)]
    if not into_folder:
        photograph_files.format_of(pathlib.Path(out))
        return [Job(found[0][0], pathlib.Path(out))]
    return _apart([Job(source, _named(pathlib.Path(out) / below)) for source, below in found])


def _default(source: pathlib.Path) -> pathlib.Path:
    if source.is_dir():
        return source.with_name(source.name + "_restored")
    suffix = source.suffix if source.suffix.lower() in photograph_files.FORMATS else ".png"
    return source.with_name(f"{source.stem}_restored{suffix}")


def _is_picture(path: pathlib.Path) -> bool:
    name = path.name.lower()
    return name.endswith(images.EXTENSIONS) and not name.endswith(COMPARISON) and name[0] != "."


def _named(path: pathlib.Path) -> pathlib.Path:
    """The same name, as PNG where its format is not written."""
    if path.suffix.lower() in photograph_files.FORMATS:
        return path
    return path.with_name(path.name + ".png")


def _apart(jobs: list[Job]) -> list[Job]:
    """Inputs of one name from several folders would overwrite each other."""
    seen: dict[pathlib.Path | None, Job] = {}
    for job in jobs:
        if (other := seen.get(job.out)) is not None and other.source != job.source:
            raise UserError(
                f"{other.shown} and {job.shown} would both become {job.out}: restore them into "
                "two folders"
            )
        seen[job.out] = job
    return list(seen.values())


def restore(
    restorer: Restorer, job: Job, how: How, progress: Callable[[int, int], None]
) -> Iterator[str]:
    """Restores one picture and writes it with its manifest and comparison.

    Yields:
      lines to print.

    Raises:
      Skipped: it cannot be read or written.
    """
    began = time.monotonic()
    try:
        if job.out is not None:
            _check_out(job)
        data = sys.stdin.buffer.read() if job.source is None else job.source.read_bytes()
        photo = photographs.read(data, how.max_pixels)
    except images.ImageError as error:
        raise Skipped(str(error)) from None
    except OSError as error:
        raise Skipped(_words(error)) from None
    if photo.pixels.shape[0] * photo.pixels.shape[1] * how.scale**2 > how.max_pixels:
        raise Skipped(f"--scale={how.scale} makes it larger than --max_pixels={how.max_pixels}")
    result = restorer(
        photo.pixels,
        prompt=how.prompt,
        strength=how.strength,
        scale=how.scale,
        tile=how.tile,
        progress=progress,
    )
    alpha = None if photo.alpha is None else _enlarged(photo.alpha, how.scale)
    done = photo.replace(pixels=result.pixels, alpha=alpha)
    kind = photograph_files.format_of(job.out) if job.out else "PNG"
    encoded, lost = photograph_files.encode(done, kind, how.quality)
    if job.out is None:
        sys.stdout.buffer.write(encoded)
        sys.stdout.buffer.flush()
    else:
        try:
            files.write_bytes(job.out, encoded)
            facts = _facts(restorer, job, how, photo, result, data, encoded)
            facts["seconds"] = round(time.monotonic() - began, 2)
            text = strict_json.dumps(facts, indent=2) + "\n"
            files.write_text(job.out.with_name(job.out.name + ".json"), text)
            if how.compare:
                pictures.save(job.out.with_name(job.out.name + COMPARISON), comparison(photo, done))
        except OSError as error:
            raise Skipped(_words(error)) from None
    for note in (*photo.notes, *lost):
        yield f"note: {job.shown} {note}" if note[0].islower() else f"note: {job.shown}: {note}"
    height, width = result.pixels.shape[:2]
    yield (
        f"restored {job.shown} -> {job.out or '-'}  {width}x{height}  "
        f"{time.monotonic() - began:.1f} s{_told(result)}"
    )


def _enlarged(alpha: np.ndarray, scale: int) -> np.ndarray:
    large = Enlarged(alpha, scale)
    part = large(0, large.size[0], 0, large.size[1])
    return np.round(part * np.iinfo(alpha.dtype).max).astype(alpha.dtype)


def _check_out(job: Job) -> None:
    out = job.out
    if job.source is not None and out.exists() and os.path.samefile(job.source, out):
        raise Skipped("would be overwritten by its result: name another --out")
    # Nothing is made yet: the picture may turn out to be none.
    there = next(p for p in (out.absolute().parent, *out.absolute().parents) if p.exists())
    if not there.is_dir():
        raise Skipped(f"{there}: is a file, not a folder; name another --out")
    if not os.access(there, os.W_OK):
        raise Skipped(f"{there}: permission denied; name a folder that you may write to")


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
        parts.append(f"gate {result.gate:.2f}")
    return f"  ({', '.join(parts)})" if parts else ""


def _facts(restorer, job, how, photo, result, data, encoded) -> dict:
    told = {k: round(result.told[k], 4) for k in PARAMETERS if k in result.told}
    return {
        "input": str(job.source) if job.source else None,
        "input_sha256": hashlib.sha256(data).hexdigest(),
        "output": job.out.name,
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "size": list(result.pixels.shape[1::-1]),
        "depth": photo.depth,
        "run": str(restorer.model.path),
        "checkpoint_step": restorer.model.step,
        "weights_sha256": restorer.model.digest,
        "prompt": how.prompt,
        "strength": how.strength,
        "scale": how.scale,
        "tile": {None: "auto", 0: "off"}.get(how.tile, how.tile),
        "estimates": told,
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
