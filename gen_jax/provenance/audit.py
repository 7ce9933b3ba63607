"""Checks of one image against what lies in it and beside it. Nothing here imports JAX."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

from gen_jax.common import names
from gen_jax.common.errors import UserError
from gen_jax.provenance import credentials, ledger_check, manifest
from gen_jax.provenance.credentials import Credentials
from gen_jax.provenance.ledger_audit import AuditedLedger
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


def audit(path: pathlib.Path, trusted: str = "", entered: AuditedLedger | None = None) -> Audited:
    """Verifies one image: its manifest, the digests in it, and its signature.

    Args:
      path: The image.
      trusted: PEM of trusted root certificates. With it every image must have a signature that
        leads to one of them; "" checks signatures without asking who signed.
      entered: Ledger that every image must be in; None checks the proof beside an image alone.
    """
    data, fault = _image(path)
    beside = manifest.beside(path)
    facts, checks = _manifest(path, beside)
    if data is None:
        missing = Outcome.FAILED if beside else Outcome.UNCHECKED
        return Audited(Verdict(path, (*checks, Check("file", missing, fault))), facts)
    signed, check = _signature(data, facts, trusted)
    is_named = bool(facts and facts.get("ledger"))
    if facts:
        checks += [_file(data, facts), *_beside(path, facts), check]
        if signed is not None and not signed.faults:
            checks.append(_signed_manifest(signed, facts))
    elif signed is not None:
        checks.append(check)
        facts = None if signed.faults or beside else signed.facts
    elif beside is None:
        if entered is None:
            checks.append(Check("manifest", Outcome.UNCHECKED, "there is none beside the file"))
        checks += [check] if trusted else []
    if is_named and beside:
        checks.append(ledger_check.proof(path, data, beside, facts, trusted, entered))
    elif entered is not None:
        checks.append(ledger_check.look_up(data, entered))
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
) -> tuple[dict[str, Any] | None, list[Check]]:
    """Returns the manifest, None if there is none that can be read, and its checks."""
    if beside is None:
        return None, []
    try:
        facts = manifest.read(beside)
    except manifest.ManifestError as error:
        return None, [Check("manifest", Outcome.FAILED, f"{beside.name} {error}")]
    except OSError as error:
        return None, [Check("manifest", Outcome.UNCHECKED, f"cannot be read ({error.strerror})")]
    if facts["version"] == 0:
        return facts, [Check("manifest", Outcome.OK, "of an earlier release, digest alone")]
    if facts["output"] != names.key(path.name):
        return facts, [Check("manifest", Outcome.FAILED, f"describes {facts['output']}")]
    return facts, [Check("manifest", Outcome.OK, f"version {facts['version']}")]


def _file(data: bytes, facts: Mapping[str, Any]) -> Check:
    """Checks the whole file; if it was changed, says whether the pixels were."""
    if hashlib.sha256(data).hexdigest() == facts[manifest.DIGEST]:
        return Check("file", Outcome.OK, "unchanged")
    detail = "changed: its SHA-256 is not the one in its manifest"
    if signature := facts.get("signature"):
        from gen_jax.data.images import ImageError
        from gen_jax.provenance import pixels

        try:
            is_same = pixels.digest(pixels.read(data)) == signature["pixels_sha256"]
        except (ImageError, OSError, ValueError):
            return Check("file", Outcome.FAILED, f"{detail}, and it cannot be decoded")
        detail += "; the pixels are the same" if is_same else "; the pixels differ"
    return Check("file", Outcome.FAILED, detail)


def _beside(path: pathlib.Path, facts: Mapping[str, Any]) -> list[Check]:
    """Checks the maps and overviews that the manifest names, one check for each kind."""
    maps = {e["file"]: e["sha256"] for e in (facts.get("maps") or {}).values()}
    checks = []
    for kind, digests in (("maps", maps), ("sheets", facts.get("sheets") or {})):
        faults = [fault for item in digests.items() if (fault := _fault(path.with_name, *item))]
        if faults:
            checks.append(Check(kind, Outcome.FAILED, ", ".join(faults)))
        elif digests:
            checks.append(Check(kind, Outcome.OK, "unchanged"))
    return checks


def _fault(sibling: Any, name: str, digest: str) -> str:
    """Returns what is wrong with a file beside the image, "" for nothing."""
    try:
        data = sibling(name).read_bytes()
    except (OSError, ValueError):  # ValueError: a name that no file has
        return f"{name} is missing"
    return "" if hashlib.sha256(data).hexdigest() == digest else f"{name} was changed"


def _signature(
    data: bytes, facts: Mapping[str, Any] | None, trusted: str
) -> tuple[Credentials | None, Check]:
    """Returns the credentials in a file, None if there are none, and their check."""
    name, is_due = "signature", bool((facts or {}).get("signature"))
    try:
        signed = credentials.read(data, trusted)
    except UserError as error:  # the optional package is missing
        outcome = Outcome.UNCHECKED if is_due or trusted else Outcome.ABSENT
        return None, Check(name, outcome, str(error))
    if signed is None:
        if is_due:
            detail = "there is none; the manifest says that the file is signed"
            return None, Check(name, Outcome.FAILED, detail)
        outcome = Outcome.FAILED if trusted else Outcome.ABSENT
        return None, Check(name, outcome, "there is none")
    if signed.faults:
        return signed, Check(name, Outcome.FAILED, f"invalid ({', '.join(signed.faults)})")
    by = f"valid, by {signed.signed_by!r}"
    if signed.is_trusted:
        return signed, Check(name, Outcome.OK, f"{by}, trusted")
    if trusted:
        return signed, Check(name, Outcome.FAILED, f"{by}, who is not trusted")
    return signed, Check(name, Outcome.OK, f"{by}, no trusted certificate was named")


def _signed_manifest(signed: Credentials, facts: Mapping[str, Any]) -> Check:
    """Compares the manifest beside a file with the one that was signed."""
    name = "signed manifest"
    if signed.facts is None:
        if facts.get("signature"):
            return Check(name, Outcome.FAILED, "the signature is of another program")
        return Check(name, Outcome.ABSENT, "the signature is of another program")
    beside = {key: value for key, value in facts.items() if key != manifest.DIGEST}
    # As text, in which 1 and 1.0 differ.
    if manifest.dumps(beside) == manifest.dumps(signed.facts):
        return Check(name, Outcome.OK, "the one beside the file")
    changed = [
        key
        for key in dict.fromkeys((*beside, *signed.facts))
        if beside.get(key, ...) != signed.facts.get(key, ...)
    ]
    detail = f"the one beside the file differs in {', '.join(changed) or 'its numbers'}"
    return Check(name, Outcome.FAILED, detail)
