"""Finishes outputs: signs them if there is a key, and makes their manifests."""

import pathlib
from collections.abc import Mapping
from typing import Any

from gen_jax.common import files, results
from gen_jax.provenance import extra, keys, manifest
from gen_jax.provenance.keys import Signer


def open_recorder(sign: str | None = None) -> "Recorder":
    """Returns a recorder by the options of a command.

    Args:
      sign: Private key and certificates, see `keys.load`; None to leave images unsigned.

    Raises:
      UserError: The key cannot be used, or an optional package is missing.
    """
    if sign is None:
        return Recorder()
    extra.load("c2pa", "sign")
    return Recorder(keys.load(sign))


class Recorder:
    """What commands record about the images that they write.

    Without a signer this makes the manifest alone and imports no optional package.

    Args:
      signer: Certificates and key; None to leave images unsigned.
    """

    def __init__(self, signer: Signer | None = None):
        self._signer = signer

    def sign(
        self, image: bytes, kind: str, facts: Mapping[str, Any], parent: bytes | None = None
    ) -> tuple[bytes, dict[str, Any]]:
        """Signs an image if there is a key.

        Args:
          image: The whole file.
          kind: Pillow's name of its format.
          facts: The manifest, without the digest of the finished file.
          parent: The file that was restored; None for a generated image.

        Returns:
          The file and the manifest, both as they are if there is no key.

        Raises:
          NotSigned: The image cannot be signed without a change of its pixels or metadata.
        """
        if self._signer is None:
            return image, dict(facts)
        from gen_jax.provenance import credentials, pixels

        digest = pixels.digest(image)
        signature = {
            "format": "c2pa",
            "embedded": True,
            "algorithm": self._signer.algorithm,
            "certificates_sha256": self._signer.certificates_sha256,
            "pixels_sha256": digest,
        }
        facts = {**facts, "signature": signature}
        signed = credentials.sign(image, kind, self._signer, facts, parent)
        if pixels.digest(signed) != digest:
            raise credentials.NotSigned(f"signing changes the pixels of this {kind} file")
        if lost := pixels.lost_metadata(image, signed):
            raise credentials.NotSigned(f"signing this {kind} file loses {', '.join(lost)}")
        if faults := credentials.read(signed).faults:
            raise credentials.NotSigned(f"the signature is not valid ({', '.join(faults)})")
        return signed, facts

    def files(
        self, out: pathlib.Path, image: bytes, facts: Mapping[str, Any], ending: str = ""
    ) -> dict[pathlib.Path, bytes]:
        """Returns the content of the output and of every file that is recorded beside it.

        Args:
          out: Path of the image.
          image: The finished file.
          facts: Its manifest, without the digest of the finished file.
          ending: Ending that the manifest's name has in place of that of the image; by default
            .json is added to the name of the image.
        """
        beside = out.with_suffix(ending) if ending else files.with_ending(out, results.MANIFEST)
        return {out: image, beside: manifest.dumps(manifest.finished(facts, image))}
