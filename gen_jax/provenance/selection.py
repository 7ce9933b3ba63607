"""The images that an audit looks at: those named, and those of folders."""

import os
import pathlib
from collections.abc import Iterator, Sequence

from gen_jax.common import names, results
from gen_jax.common.errors import UserError
from gen_jax.provenance import manifest

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


def images(paths: Sequence[str]) -> list[pathlib.Path]:
    """Returns the images to verify, each once.

    Of a folder these are all images in it and below it but those that our commands draw beside
    others (grids, comparisons, maps) and the originals that a manifest beside them names. An image
    whose manifest lies there is returned although the image itself is missing.

    Args:
      paths: Files and folders. A manifest stands for its image.

    Raises:
      UserError: A path does not exist, or a folder holds no image.
    """
    chosen: dict[pathlib.Path, None] = {}
    for text in paths:
        path = pathlib.Path(text)
        if path.is_dir():
            inside = list(_below(path))
            if not inside:
                raise UserError(f"{names.printable(path)}: no image in this folder or below it")
            chosen |= dict.fromkeys(inside)
        elif path.suffix == results.MANIFEST and (output := _output(path)):
            chosen[output] = None
        elif path.exists() or manifest.beside(path):
            chosen[path] = None
        else:
            raise UserError(f"{names.printable(path)}: no such file; check its name")
    return list(chosen)


def _below(root: pathlib.Path) -> Iterator[pathlib.Path]:
    for folder, folders, inside in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        beside, place = set(inside), pathlib.Path(folder)
        known = {name: _read(place / name) for name in inside if name.endswith(results.MANIFEST)}
        facts = [value for value in known.values() if value]
        originals = {pathlib.PurePath(value.get("input") or "").name for value in facts}
        outputs = {name for path, value in known.items() if (name := _name(path, value))}
        for name in sorted({n for n in inside if n.lower().endswith(_ENDINGS)} | outputs):
            is_ours = name.startswith(".") or results.is_overview(name, beside)
            if name in outputs or not (is_ours or name in originals):
                yield place / name


def _output(path: pathlib.Path) -> pathlib.Path | None:
    """Returns the image of a manifest, or None if the file is no manifest."""
    name = _name(path.name, _read(path))
    return path.with_name(name) if name else None


def _read(path: pathlib.Path) -> dict | None:
    try:
        return manifest.read(path)
    except (manifest.ManifestError, OSError):
        return None


def _name(file: str, facts: dict | None) -> str | None:
    """Returns the file name of the image that a manifest describes."""
    if not facts:
        return None
    # Manifests of generate had no name of their image in version 0.
    output = facts.get("output") or file.removesuffix(results.MANIFEST) + ".png"
    return pathlib.PurePath(output).name if isinstance(output, str) else None
