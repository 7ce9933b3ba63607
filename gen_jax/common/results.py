"""Files that our own commands leave in folders of images, which are not images to read again."""

import json
import pathlib
import re
from collections.abc import Collection

from gen_jax.common import files, names

DATASET = "dataset.json"
CONTACT_SHEET = "contact_sheet.png"
ALIGNED = "aligned.json"
GRID = "grid.png"
FRAMES = "frames.gif"
COMPARISON = ".before_after.png"
MANIFEST = ".json"
BUNDLE = ".ledger.json"
EDIT_MAP = ".edit.png"
EDIT_PREVIEW = ".edit_preview.png"
ERROR_MAP = ".error.png"
ERROR_PREVIEW = ".error_preview.png"

_FIRST_GENERATED = re.compile(r"0+\.png")
_BESIDE = (COMPARISON, EDIT_MAP, EDIT_PREVIEW, ERROR_MAP, ERROR_PREVIEW)
_SHORTENED = re.compile(rf"~[0-9a-f]{{8}}({'|'.join(map(re.escape, _BESIDE))})$")
_MANIFEST_BYTES = 1 << 20


def is_folder(inside: Collection[str]) -> bool:
    """Returns whether one of our commands made all of a folder.

    Such are a prepared data set, the faces that were aligned for one, and a run directory.
    """
    is_run = "config.json" in inside and "metrics.jsonl" in inside
    return (
        is_run
        or ALIGNED in inside
        or (DATASET in inside and any(name.endswith(".arrayrecord") for name in inside))
    )


def is_overview(name: str, beside: Collection[str]) -> bool:
    """Returns whether an image is an overview or a comparison that one of our commands drew.

    Args:
      name: File name of the image.
      beside: All names in its folder.
    """
    if name == CONTACT_SHEET:
        return DATASET in beside
    if name in (GRID, FRAMES):
        return any(
            other.removesuffix(".png") + MANIFEST in beside
            for other in beside
            if other.endswith(".png") and _FIRST_GENERATED.fullmatch(other)
        )
    return bool(_SHORTENED.search(name)) or any(
        name.removesuffix(ending) in beside for ending in _BESIDE if name.endswith(ending)
    )


def restored_from(folder: pathlib.Path, name: str, beside: Collection[str]) -> str | None:
    """Reads what an image was restored from.

    Args:
      folder: Folder of the image.
      name: File name of the image.
      beside: All names in the folder.

    Returns:
      File name of the original as the manifest of `gen_jax.restore` has it; None if there is no
      such manifest beside the image.
    """
    manifest = name + MANIFEST
    if manifest not in beside:
        manifest = files.with_ending(folder / name, MANIFEST).name if len(name) > 99 else ""
        if manifest not in beside:
            return None
    try:
        if (folder / manifest).stat().st_size > _MANIFEST_BYTES:
            return None
        facts = json.loads(files.read_text(folder / manifest))
    except (OSError, ValueError):
        return None
    if not isinstance(facts, dict) or facts.get("output") != names.key(name):
        return None
    original = facts.get("input")
    is_ours = "input_sha256" in facts and isinstance(original, str)
    return pathlib.PurePath(original).name if is_ours else None
