"""Content Credentials (C2PA): a signed manifest inside a PNG, JPEG, WebP or TIFF file.

The C2PA manifest names the action by the kind of model, holds our own manifest as an assertion, and
has the original, with the credentials of its own, as its parent.
"""

import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import gen_jax
from gen_jax.common import names
from gen_jax.provenance import extra, manifest
from gen_jax.provenance.keys import Signer

ASSERTION = "gen_jax.manifest"
"""Label of the assertion that holds our manifest as JSON text, without the file's digest."""

MIME = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
}
"""Pillow's name of a format -> media type."""

_MAGIC = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"RIFF", "image/webp"),
    (b"II", "image/tiff"),
    (b"MM", "image/tiff"),
)
_MARK = b"c2pa"  # label of the JUMBF box, which no file with credentials lacks
_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_ENHANCED = "http://c2pa.org/digitalsourcetype/algorithmicallyEnhanced"
_PARENT = "original"
# Neither thumbnails nor anything from the network: a file under examination is not trusted.
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {
        "verify_after_sign": False,
        "verify_trust": True,
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
    },
}


class NotSigned(ValueError):
    """A file cannot be signed; the message is one phrase."""


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What the credentials in a file came to.

    Attributes:
      faults: Why they are invalid, one code or phrase each; empty if they are valid.
      is_trusted: Whether the certificate chain leads to a trusted certificate.
      signed_by: Common name of the signer.
      facts: Our manifest as it was signed, or None if another program signed.
    """

    faults: tuple[str, ...]
    is_trusted: bool = False
    signed_by: str = ""
    facts: dict[str, Any] | None = None


def sign(
    image: bytes,
    kind: str,
    signer: Signer,
    facts: Mapping[str, Any],
    parent: bytes | None = None,
) -> bytes:
    """Returns an image file with credentials.

    Args:
      image: The whole file.
      kind: Pillow's name of its format, a key of `MIME`.
      signer: Certificates and key.
      facts: The manifest, without the digest of the finished file.
      parent: The file that was restored, which C2PA asks for; None for a generated image.

    Raises:
      NotSigned: The format cannot hold a signature here, or the library refuses the file, its
        parent or the signer.
    """
    if kind not in MIME:
        raise NotSigned(f"{kind} files are not signed; write one of {', '.join(MIME)}")
    c2pa = extra.load("c2pa", "sign")
    definition = {
        "claim_generator_info": [{"name": "gen_jax", "version": gen_jax.__version__}],
        "title": facts["output"],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": _actions(facts)}},
            # As text: numbers in nested lists come back changed from the library's CBOR.
            {"label": ASSERTION, "data": {"json": manifest.dumps(facts).decode("utf-8")}},
        ],
    }
    algorithm = getattr(c2pa.C2paSigningAlg, signer.algorithm.upper())
    finished = io.BytesIO()
    try:
        builder = c2pa.Builder.from_json(definition, c2pa.Context.from_dict(_SETTINGS))
        if parent is not None:
            title = pathlib.PurePath(facts.get("input") or "standard input").name
            ingredient = {"title": title, "relationship": "parentOf", "instance_id": _PARENT}
            media = _media_type(parent) or "application/octet-stream"
            builder.add_ingredient(ingredient, media, io.BytesIO(parent))
        with c2pa.Signer.from_callback(signer.sign, algorithm, signer.certificates) as native:
            builder.sign(native, MIME[kind], io.BytesIO(image), finished)
    except c2pa.C2paError as error:
        raise NotSigned(f"cannot be signed ({_words(error)})") from None
    return finished.getvalue()


def read(image: bytes, trusted: str = "") -> Credentials | None:
    """Reads and validates the credentials of an image file; None if it has none.

    Args:
      image: The whole file.
      trusted: PEM of trusted root certificates, "" for none.
    """
    media = _media_type(image)
    if media is None or _MARK not in image:
        return None
    c2pa = extra.load("c2pa", "signature")
    settings = {**_SETTINGS, "trust": {"trust_anchors": trusted}} if trusted else _SETTINGS
    try:
        with c2pa.Reader(
            media, io.BytesIO(image), context=c2pa.Context.from_dict(settings)
        ) as reader:
            state = reader.get_validation_state()
            active = reader.get_active_manifest() or {}
            results = reader.get_validation_results() or {}
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError as error:
        return Credentials((_words(error),))
    except (KeyError, TypeError, ValueError):  # from the library's own reading of its JSON
        return Credentials(("the manifest store is damaged",))
    by = (active.get("signature_info") or {}).get("common_name") or "an unnamed signer"
    if state not in ("Valid", "Trusted"):
        failures = (results.get("activeManifest") or {}).get("failure") or []
        codes = dict.fromkeys(f["code"] for f in failures if "untrusted" not in f["code"])
        return Credentials(tuple(codes) or (f"validation state {state}",), signed_by=by)
    return Credentials((), state == "Trusted", by, _own(active))


def _actions(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the actions by the kind of model."""
    agent = {"name": facts["run"], "version": facts["weights_sha256"]}
    if facts["kind"] == "generate":
        source = "trainedAlgorithmicMedia"
        if "image" in facts or "images" in facts:
            source = "compositeWithTrainedAlgorithmicMedia"
        action = {"action": "c2pa.created", "digitalSourceType": _IPTC + source}
        return [{**action, "softwareAgent": agent}]
    kind, source = "c2pa.enhanced", _ENHANCED
    if facts.get("generative"):  # some of the detail is the model's invention
        kind, source = "c2pa.edited", _IPTC + "compositeWithTrainedAlgorithmicMedia"
    done = {"action": kind, "digitalSourceType": source, "softwareAgent": agent}
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [_PARENT]}}
    return [opened, done]


def _own(active: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns our manifest from among the assertions, or None."""
    for assertion in active.get("assertions") or []:
        if assertion.get("label") == ASSERTION:
            try:
                facts = json.loads(assertion["data"]["json"])
                manifest.check({**facts, manifest.DIGEST: "0" * 64})  # known after signing only
            except (KeyError, TypeError, ValueError, RecursionError):
                return None
            return facts
    return None


def _media_type(data: bytes) -> str | None:
    return next((media for magic, media in _MAGIC if data.startswith(magic)), None)


def _words(error: Exception) -> str:
    return names.printable(" ".join(str(error).split()))[:200] or type(error).__name__
