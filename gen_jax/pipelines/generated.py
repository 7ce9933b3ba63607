"""Folders of generated images: a PNG and a manifest per image, a grid, perhaps an animation."""

import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gen_jax.common import checksum, files, outputs, pictures, results, strict_json
from gen_jax.common.errors import UserError
from gen_jax.pipelines.sampling import Samples
from gen_jax.provenance import bundles, manifest
from gen_jax.provenance.recorder import Output, Recorder
from gen_jax.runs import reader

GRID, ANIMATION = results.GRID, results.FRAMES
_NAMES = re.compile(
    rf"\d{{5}}\.(png|json|png{re.escape(results.BUNDLE)})|{re.escape(GRID)}|{re.escape(ANIMATION)}"
)
_AT_ONCE = 256  # images that go into a ledger under one checkpoint


def check(path: str, overwrite: bool, name: str = "out") -> tuple[pathlib.Path, list[str]]:
    """Checks that results can be written to a folder.

    Args:
      path: The folder, which need not exist.
      overwrite: Whether results of an earlier generation are to be replaced.
      name: What the path is called in the error message.

    Returns:
      The absolute path, and the names of the files that the earlier generation left there.

    Raises:
      UserError: The folder cannot be written to, or holds results that must not be replaced.
    """
    folder = outputs.check_folder(path, name)
    if not folder.is_dir():
        return folder, []
    taken = sorted(n for n in os.listdir(folder) if _NAMES.fullmatch(n))
    if taken and not overwrite:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise UserError(
            f"{name}={path}: holds earlier results ({taken[0]}{more}); name another folder, or set "
            "overwrite to replace them"
        )
    earlier = _earlier(folder, taken)
    if others := [n for n in taken if n not in earlier]:
        raise UserError(
            f"{name}={path}: {others[0]} is not as any manifest there describes it, and is not "
            "replaced; move it away, or name another folder"
        )
    return folder, taken


def write(
    folder: pathlib.Path,
    earlier: Sequence[str],
    images: np.ndarray,
    manifests: Sequence[Mapping[str, Any]],
    grid: np.ndarray,
    animated: bool,
    recorder: Recorder | None = None,
) -> None:
    """Writes all results, or nothing if it fails.

    Args:
      folder: Absolute path.
      earlier: Names of the files that are removed, as `check` returns them.
      images: uint8 `[n, h, w, 3]`.
      manifests: One per image; the digests of the files are added. A "caption" becomes the
        description in the PNG as well.
      grid: uint8 `[H, W, 3]`.
      animated: Whether the images are the frames of an animation as well.
      recorder: Signs the images and makes what lies beside them; by default the manifests alone.
    """
    recorder = recorder or Recorder()
    with outputs.writing(folder, [folder / name for name in earlier]) as temporary:
        pictures.save(temporary / GRID, grid)
        if animated:
            pictures.save_gif(temporary / ANIMATION, images)
        sheets = {p.name: checksum.of_file(p) for p in sorted(temporary.iterdir())}
        part: list[Output] = []
        for index, (image, row) in enumerate(zip(images, manifests, strict=True)):
            path = temporary / f"{index:05d}.png"
            pictures.save(path, image, row.get("caption", ""))
            own = {"output": path.name, "index": index, "sheets": sheets}
            facts = manifest.new("generate", {**row, **own})
            encoded = path.read_bytes()
            part.append(recorder.finish(path, encoded, "PNG", facts, ending=results.MANIFEST))
            if len(part) == _AT_ONCE or index == len(images) - 1:
                for file, content in recorder.contents(part).items():
                    file.write_bytes(content)
                part = []


def write_samples(
    place: tuple[pathlib.Path, Sequence[str]],
    samples: Samples,
    rows: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    columns: int | None,
    animated: bool,
    recorder: Recorder | None = None,
) -> None:
    """Writes samples with a grid, as `write` does.

    Args:
      place: As `check` returns it.
      samples: Images, and perhaps captions.
      rows: What is true of one image each: "prompt", "seed" and more.
      facts: What is true of all.
      columns: Columns of the grid; None for as square as possible.
      animated: As of `write`.
      recorder: As of `write`.
    """
    captions = samples.captions or [None] * len(rows)
    written = [{"caption": text} if text is not None else {} for text in captions]
    manifests = [{**row, **caption, **facts} for row, caption in zip(rows, written, strict=True)]
    texts = samples.captions or [row["prompt"] for row in rows]
    below = [text or f"seed {row['seed']}" for text, row in zip(texts, rows)]
    grid = pictures.grid(samples.images, below, columns=columns)
    write(*place, samples.images, manifests, grid, animated, recorder)


def model_facts(model: reader.TrainedModel) -> dict[str, Any]:
    """Returns what a manifest says of the model."""
    return {
        "run": reader.name_of(model),
        "checkpoint_step": model.step if model.step >= 0 else None,
        "weights_sha256": model.digest,
        "frozen_weights_sha256": dict(model.frozen_digests),
    }


def _earlier(folder: pathlib.Path, names: Sequence[str]) -> set[str]:
    """Returns the names of all files that are as a manifest in the folder describes them."""
    digests: dict[str, set[str]] = {}
    known = set()
    for name in names:
        if name.endswith(".json") and (described := _manifest(folder / name)):
            known.add(name)
            for file, digest in described.items():
                digests.setdefault(file, set()).add(digest)
    for name in names:
        image = name.removesuffix(results.BUNDLE)
        if name != image and _entered(folder / name) in digests.get(image, ()):
            known.add(name)
    return known | {n for n in names if n in digests and checksum.of_file(folder / n) in digests[n]}


def _entered(path: pathlib.Path) -> str | None:
    """Returns the digest of the image that a bundle of a ledger is for; None for other files."""
    try:
        return bundles.loads(path.read_bytes()).entry["sha256"]
    except (bundles.BundleError, KeyError):
        return None


def _manifest(path: pathlib.Path) -> dict[str, str] | None:
    """Returns the digest of each file that a manifest describes; None for any other JSON file."""
    try:
        facts = strict_json.loads(files.read_text(path))
        return {path.with_suffix(".png").name: facts["sha256"], **facts["sheets"]}
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        return None
