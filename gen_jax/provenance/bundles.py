"""Offline proofs that an output is in a ledger: entry, audit path and signed checkpoint."""

import base64
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gen_jax.provenance import checkpoints, merkle
from gen_jax.provenance.checkpoints import Checkpoint, CheckpointError

NAME = "gen_jax/ledger-bundle"
ENTRY = "gen_jax/ledger-entry"
VERSION = 1


class BundleError(ValueError):
    """A bundle is damaged or proves nothing; the message is one phrase."""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle that proves its entry.

    Attributes:
      entry: The entry: digests of the finished file, its manifest and its pixels.
      text: The entry as it stands in the ledger.
      index: Index of the entry, from 0.
      checkpoint: The state of the ledger that holds it.
      certificates: PEM of the chain of the ledger's signer.
    """

    entry: Mapping[str, Any]
    text: bytes
    index: int
    checkpoint: Checkpoint
    certificates: str


def entry(image: bytes, manifest: bytes, facts: Mapping[str, Any], phash: str) -> bytes:
    """Returns the entry of an output. It has no names, prompts or other personal data.

    Args:
      image: The finished file.
      manifest: The file of its manifest.
      facts: The manifest.
      phash: Perceptual hash of the pixels, hexadecimal.
    """
    values = {
        "schema": ENTRY,
        "version": VERSION,
        "created": facts["created"],
        "kind": facts["kind"],
        "sha256": hashlib.sha256(image).hexdigest(),
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
        "pixels_sha256": facts["signature"]["pixels_sha256"],
        "phash": phash,
    }
    return json.dumps(values, separators=(",", ":")).encode("ascii")


def dumps(text: bytes, index: int, path: Sequence[bytes], note: str, certificates: str) -> bytes:
    """Returns the file of a bundle.

    Args:
      text: The entry.
      index: Index of the entry, from 0.
      path: Hashes of the siblings, from the leaf upward.
      note: Signed checkpoint whose tree the path belongs to.
      certificates: PEM of the chain of the ledger's signer.
    """
    values = {
        "schema": NAME,
        "version": VERSION,
        "entry": text.decode("ascii"),
        "leaf_index": index,
        "path": [base64.b64encode(digest).decode("ascii") for digest in path],
        "checkpoint": note,
        "certificates": certificates,
    }
    return (json.dumps(values, indent=2) + "\n").encode("ascii")


def loads(data: bytes) -> Bundle:
    """Reads a bundle and verifies that it proves its entry.

    Raises:
      BundleError: It is damaged, or the entry is not in the tree of the checkpoint.
    """
    try:
        values = json.loads(data.decode("ascii"))
        if (values["schema"], values["version"]) != (NAME, VERSION):
            raise BundleError("is of another version")
        text, index, note = values["entry"].encode("ascii"), values["leaf_index"], ""
        path = [base64.b64decode(digest, validate=True) for digest in values["path"]]
        note, certificates = values["checkpoint"], values["certificates"]
        facts = json.loads(text)
        # One way to write it, so that no byte can change unnoticed.
        is_as_written = data == dumps(text, index, path, note, certificates)
        is_entry = (facts["schema"], facts["version"]) == (ENTRY, VERSION)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError("is damaged") from None
    if not is_as_written or not is_entry or not isinstance(index, int):
        raise BundleError("is damaged")
    try:
        checkpoint = checkpoints.verify(note, certificates)
    except CheckpointError as error:
        raise BundleError(str(error)) from None
    root = merkle.root_by_path(merkle.leaf(text), index, checkpoint.size, path)
    if root != checkpoint.root:
        raise BundleError("the entry is not in the tree of the checkpoint")
    return Bundle(facts, text, index, checkpoint, certificates)
