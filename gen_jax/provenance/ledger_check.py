"""The check of one image against the proof beside it and against a ledger."""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

from gen_jax.common.errors import UserError
from gen_jax.provenance import bundles, keys
from gen_jax.provenance.bundles import Bundle, BundleError
from gen_jax.provenance.ledger_audit import AuditedLedger
from gen_jax.provenance.verdict import Check, Outcome

_NAME = "ledger"


def proof(
    path: pathlib.Path,
    image: bytes,
    beside: pathlib.Path,
    facts: Mapping[str, Any],
    trusted: str,
    entered: AuditedLedger | None,
) -> Check:
    """Checks the proof beside an image, and that the ledger holds its entry.

    Args:
      path: The image.
      image: The whole file.
      beside: The file of its manifest.
      facts: Its manifest, which names the bundle.
      trusted: PEM of trusted root certificates, "" for any signer.
      entered: The ledger, or None to go by the bundle alone.
    """
    named = facts["ledger"]
    try:
        bundle = bundles.loads(path.with_name(named["bundle"]).read_bytes())
        fault = _fault(bundle, image, beside, facts, trusted)
    except BundleError as error:
        return Check(_NAME, Outcome.FAILED, f"{named['bundle']}: {error}")
    except (OSError, ValueError):  # ValueError: a name that no file has
        return Check(_NAME, Outcome.FAILED, f"the proof {named['bundle']} is missing")
    except UserError as error:  # an optional package is missing
        return Check(_NAME, Outcome.UNCHECKED, str(error))
    if not fault and entered is not None:
        fault = entered.fault_of(bundle)
    if fault:
        return Check(_NAME, Outcome.FAILED, fault)
    where = "in the ledger" if entered is not None else "proved by the bundle"
    of = f"entry {bundle.index} of {bundle.checkpoint.size} at {bundle.checkpoint.date}"
    return Check(_NAME, Outcome.OK, f"{where}, {of}")


def _fault(
    bundle: Bundle,
    image: bytes,
    beside: pathlib.Path,
    facts: Mapping[str, Any],
    trusted: str,
) -> str:
    """Returns why a bundle that proves its entry does not prove this image, "" if it does."""
    signature = facts.get("signature") or {}
    if bundle.entry["sha256"] != hashlib.sha256(image).hexdigest():
        return "the proof is of another file, or the file was changed"
    if bundle.entry["manifest_sha256"] != hashlib.sha256(beside.read_bytes()).hexdigest():
        return "the manifest was changed"
    if bundle.checkpoint.origin != facts["ledger"]["origin"]:
        return "the proof is of another ledger"
    chain = bundle.certificates
    if hashlib.sha256(chain.encode("ascii")).hexdigest() != signature.get("certificates_sha256"):
        return "the proof is signed by another key than the file"
    if trusted and not keys.is_issued_by(chain, trusted):
        return "the checkpoint is signed by a key that is not trusted"
    return ""


def look_up(image: bytes, entered: AuditedLedger) -> Check:
    """Looks an image without a proof up in a ledger: by its file, its pixels or their likeness."""
    index = entered.by_digest.get(hashlib.sha256(image).hexdigest())
    if index is not None:
        return Check(_NAME, Outcome.OK, f"in the ledger, entry {index}")
    from gen_jax.data import images
    from gen_jax.provenance import pixels

    detail = "not in the ledger"
    try:
        photo = pixels.read(image)
    except images.ImageError:
        return Check(_NAME, Outcome.FAILED, detail)
    known = entered.resembling(pixels.digest(photo), lambda: pixels.perceptual_hash(photo))
    return Check(_NAME, Outcome.FAILED, f"{detail}; {known}" if known else detail)
