"""SHA-256 of files, and the checksum of exported weights in the manifest.json beside them."""

import hashlib
import json
import pathlib

from gen_jax.common.errors import UserError

MANIFEST = "manifest.json"
_KEY = "file_sha256"


def of_file(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry(path: pathlib.Path) -> dict[str, str]:
    """Returns the entry of a manifest that proves a file of weights."""
    return {_KEY: of_file(path)}


def check(path: pathlib.Path) -> None:
    """Compares a file of weights with the manifest.json beside it, if that has a checksum.

    Args:
      path: The file of weights.

    Raises:
      UserError: The weights are not those that the manifest was written for, or the manifest is
        damaged.
    """
    manifest = path.with_name(MANIFEST)
    if not manifest.is_file():
        return
    try:
        recorded = json.loads(manifest.read_bytes())
        recorded = {_KEY: recorded[_KEY]} if _KEY in recorded else None
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{manifest}: damaged, not JSON ({error}); export the model again"
        ) from error
    if recorded is not None and entry(path) != recorded:
        raise UserError(
            f"{path}: damaged, its SHA-256 is not the {_KEY} in {manifest.name}; export or "
            "download it again"
        )
