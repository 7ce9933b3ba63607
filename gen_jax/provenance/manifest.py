"""The manifest beside an image that `restore` or `generate` wrote: one schema with a version.

`manifest.schema.json` beside this module is the JSON Schema. Keys that a reader does not know are
kept and ignored. Version 0 stands for the files of earlier releases, which name no schema: they
hold the digest and the settings, but not all that a replay needs.
"""

import datetime
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from gen_jax.common import files, results, strict_json

NAME = "gen_jax/manifest"
VERSION = 1
SCHEMA_FILE = pathlib.Path(__file__).with_name("manifest.schema.json")
MOST_BYTES = 16 << 20
"""Larger files are not read as manifests."""

DIGEST = "sha256"
_EMPTY: dict[str, Any] = {
    "maps": {},
    "calibration": None,
    "guards": [],
    "signature": None,
    "ledger": None,
}


class ManifestError(ValueError):
    """A file is no manifest of a version that this release reads, or is damaged."""


def new(kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a manifest without the digest of the finished file.

    Args:
      kind: Name of the command that made the image, "restore" or "generate".
      facts: Settings, digests and whatever else is known. They replace the defaults of `maps`,
        `calibration`, `guards`, `signature` and `ledger`, which are empty.
    """
    now = datetime.datetime.now(datetime.UTC)
    head = {
        "schema": NAME,
        "version": VERSION,
        "kind": kind,
        "created": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {**head, **facts, **{key: facts.get(key, value) for key, value in _EMPTY.items()}}


def finished(manifest: Mapping[str, Any], image: bytes) -> dict[str, Any]:
    """Returns a manifest with the digest of the finished file, which stands last."""
    without = {key: value for key, value in manifest.items() if key != DIGEST}
    return {**without, DIGEST: hashlib.sha256(image).hexdigest()}


def dumps(manifest: Mapping[str, Any]) -> bytes:
    """Returns the file of a manifest. Equal manifests with keys in one order give equal bytes."""
    return (strict_json.dumps(manifest, indent=2) + "\n").encode("utf-8")


def loads(data: bytes) -> dict[str, Any]:
    """Reads the file of a manifest; one of an earlier release has the version 0.

    Raises:
      ManifestError: It is not JSON, no manifest, of a later version, against the schema, or not
        written as `dumps` writes it.
    """
    try:
        manifest = strict_json.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ManifestError(f"is not JSON ({error})") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get(DIGEST), str):
        raise ManifestError("is no manifest of gen_jax.restore or gen_jax.generate")
    if "schema" not in manifest:
        return {"version": 0, **manifest}
    check(manifest)
    if dumps(manifest) != data:
        raise ManifestError("was written or edited by another program")
    return manifest


def check(manifest: Mapping[str, Any]) -> None:
    """Checks a manifest against the schema.

    Raises:
      ManifestError: It is of another version, or a value is not as the schema has it.
    """
    name, version = manifest.get("schema"), manifest.get("version")
    if name != NAME or version != VERSION:
        raise ManifestError(
            f"has the schema {name!r}, version {version!r}; expected {NAME!r}, version {VERSION}"
        )
    if error := next(_validator().iter_errors(manifest), None):
        raise ManifestError(f"{error.json_path}: {_short(error.message)}")


def read(path: pathlib.Path) -> dict[str, Any]:
    """Reads a manifest from a file.

    Raises:
      ManifestError: As of `loads`, or the file is too large.
      OSError: It cannot be read.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ManifestError(f"has more than {MOST_BYTES >> 20} MiB")
    return loads(path.read_bytes())


def beside(image: pathlib.Path) -> pathlib.Path | None:
    """Returns the path of the manifest beside an image, or None if there is none.

    `restore` writes NAME.png.json, `generate` NAME.json.
    """
    for path in (files.with_ending(image, results.MANIFEST), image.with_suffix(results.MANIFEST)):
        if path.is_file():
            return path
    return None


@functools.cache
def schema() -> dict[str, Any]:
    """Returns the JSON Schema of the current version."""
    return json.loads(files.read_text(SCHEMA_FILE))


@functools.cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(schema())


def _short(message: str) -> str:
    return message if len(message) <= 200 else message[:200] + "..."
