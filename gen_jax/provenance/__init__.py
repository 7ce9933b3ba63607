"""Where images come from and how they were changed: manifests, maps, signatures, a ledger.

Five functions are meant for other programs. They import what they need when they are called:
neither JAX, nor an optional package that a call does not need.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gen_jax.common.errors import UserError

if TYPE_CHECKING:
    from gen_jax.provenance.recorder import Recorder
    from gen_jax.provenance.verdict import Verdict

__all__ = ["make_key", "newest_checkpoint", "open_recorder", "read_manifest", "verify"]


def make_key(path: str | os.PathLike) -> pathlib.Path:
    """Makes a private key for development, with its certificates.

    Args:
      path: File to write; only its owner may read it.

    Returns:
      Path of the root certificate beside it, which verifiers trust.

    Raises:
      UserError: A file exists there, or the extra `provenance` is not installed.
    """
    from gen_jax.provenance import keys

    return keys.make(pathlib.Path(path))


def open_recorder(sign: str | None = None, ledger: str | None = None) -> "Recorder":
    """Returns what signs images, makes their manifests and enters them into a ledger.

    `pipelines.restore_files.restore` and `pipelines.generated.write` take it.

    Args:
      sign: File with a private key and its certificates, or "env:NAME"; None for no signature.
      ledger: Folder of a ledger, made if it is new; None for no ledger.

    Raises:
      UserError: The key or the ledger cannot be used.
    """
    from gen_jax.provenance import recorder

    return recorder.open_recorder(sign, ledger)


def read_manifest(image: str | os.PathLike) -> dict[str, Any]:
    """Returns the manifest beside an image.

    Raises:
      UserError: There is none, or it is damaged.
    """
    from gen_jax.provenance import manifest

    path = manifest.beside(pathlib.Path(image))
    if path is None:
        raise UserError(f"{image}: no manifest beside it; expected {image}.json")
    try:
        return manifest.read(path)
    except (manifest.ManifestError, OSError) as error:
        raise UserError(f"{path}: {error}; put back a copy") from None


def verify(
    paths: Sequence[str | os.PathLike], trust: str | None = None, ledger: str | None = None
) -> "list[Verdict]":
    """Verifies images as `python -m gen_jax.verify` does, without a replay.

    Args:
      paths: Images, manifests and folders.
      trust: PEM file with trusted root certificates, which signatures must lead to; None for any.
      ledger: Folder of the ledger that images must be in; None for the proofs beside them alone.

    Returns:
      A verdict on the ledger if there is one, then one per image.

    Raises:
      UserError: A path does not exist.
    """
    from gen_jax.provenance import keys, ledger_audit, verification

    trusted, verdicts, entered = keys.read_certificates(trust) if trust else "", [], None
    if ledger is not None:
        verdict, entered = ledger_audit.verified(ledger, trusted)
        verdicts.append(verdict)
    texts = [os.fspath(path) for path in paths]
    return [*verdicts, *verification.verify(texts, trusted=trusted, entered=entered)]


def newest_checkpoint(ledger: str) -> str:
    """Returns the newest signed checkpoint of a ledger, to be published or countersigned.

    Raises:
      UserError: There is no ledger, or it is damaged.
    """
    from gen_jax.provenance import ledger_audit

    verdict, entered = ledger_audit.verified(ledger)
    if entered is None:
        raise UserError(verdict.line())
    return entered.note
