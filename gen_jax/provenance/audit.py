"""Checks of one image against what lies beside it. Nothing here imports JAX."""

import dataclasses
import hashlib
import pathlib
from typing import Any

from gen_jax.common import names
from gen_jax.provenance import manifest
from gen_jax.provenance.verdict import Check, Outcome, Verdict

MOST_BYTES = 4 << 30
"""Larger images are not read."""


@dataclasses.dataclass(frozen=True)
class Audited:
    """A verdict, and the manifest that a replay goes by.

    Attributes:
      verdict: The checks so far.
      facts: The manifest, or None if there is none that can be read.
    """

    verdict: Verdict
    facts: dict[str, Any] | None


def audit(path: pathlib.Path) -> Audited:
    """Verifies one image: its manifest and the digests in it.

    Args:
      path: The image.
    """
    data, fault = _image(path)
    beside = manifest.beside(path)
    facts, check = _manifest(path, beside)
    checks = [] if check is None else [check]
    if data is None:
        missing = Outcome.FAILED if facts else Outcome.UNCHECKED
        checks.append(Check("file", missing, fault))
    elif facts:
        checks.append(_file(data, facts))
    if facts:
        checks += _maps(path, facts)
    return Audited(Verdict(path, tuple(checks)), facts)


def _image(path: pathlib.Path) -> tuple[bytes | None, str]:
    """Returns the bytes of the image, or None and the reason."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None, f"has more than {MOST_BYTES >> 30} GiB"
        return path.read_bytes(), ""
    except FileNotFoundError:
        return None, "is missing; its manifest is here"
    except OSError as error:
        return None, f"cannot be read ({error.strerror})"


def _manifest(
    path: pathlib.Path, beside: pathlib.Path | None
) -> tuple[dict[str, Any] | None, Check | None]:
    """Returns the manifest and its check; both None if there is no manifest."""
    if beside is None:
        return None, Check("manifest", Outcome.UNCHECKED, "there is none beside the file")
    try:
        facts = manifest.read(beside)
    except manifest.ManifestError as error:
        return None, Check("manifest", Outcome.FAILED, f"{beside.name} {error}")
    except OSError as error:
        return None, Check("manifest", Outcome.UNCHECKED, f"cannot be read ({error.strerror})")
    if facts["version"] == 0:
        return facts, Check("manifest", Outcome.OK, "of an earlier release, digest alone")
    if facts["output"] != names.key(path.name):
        return facts, Check("manifest", Outcome.FAILED, f"describes {facts['output']}")
    return facts, Check("manifest", Outcome.OK, f"version {facts['version']}")


def _file(data: bytes, facts: dict[str, Any]) -> Check:
    if hashlib.sha256(data).hexdigest() == facts[manifest.DIGEST]:
        return Check("file", Outcome.OK, "unchanged")
    return Check("file", Outcome.FAILED, "changed: its SHA-256 is not the one in its manifest")


def _maps(path: pathlib.Path, facts: dict[str, Any]) -> list[Check]:
    """Checks the maps that the manifest names; one check for all of them."""
    maps = facts.get("maps") or {}
    for name, entry in maps.items():
        file = path.with_name(entry["file"])
        try:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
        except (OSError, ValueError):
            return [Check("maps", Outcome.FAILED, f"{name}: {entry['file']} is missing")]
        if digest != entry["sha256"]:
            return [Check("maps", Outcome.FAILED, f"{name}: {entry['file']} was changed")]
    return [Check("maps", Outcome.OK, "unchanged")] if maps else []
