"""Finishes outputs: signs them, makes their manifests and enters them into a ledger, as asked."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gen_jax.common import files, names, results
from gen_jax.common.errors import UserError
from gen_jax.provenance import extra, keys, manifest
from gen_jax.provenance.keys import Signer
from gen_jax.provenance.ledger import Ledger

if TYPE_CHECKING:
    from gen_jax.provenance.maps import Map


# Formats whose readers skip a block that they do not know, without offsets that would move.
_INSERTED = ("PNG", "JPEG")


@dataclasses.dataclass(frozen=True)
class Output:
    """A finished image and what is known of it.

    Attributes:
      path: Where it is to lie.
      image: The whole file.
      facts: Its manifest, without the digest of the file.
      phash: Perceptual hash of the pixels; "" if it goes into no ledger.
      beside: Path of the manifest.
      maps: Path -> file of each map.
    """

    path: pathlib.Path
    image: bytes
    facts: Mapping[str, Any]
    phash: str
    beside: pathlib.Path
    maps: Mapping[pathlib.Path, bytes] = dataclasses.field(default_factory=dict)


def open_recorder(sign: str | None = None, ledger: str | None = None) -> "Recorder":
    """Returns a recorder by the options of a command.

    Args:
      sign: Private key and certificates, see `keys.load`; None to leave images unsigned.
      ledger: Folder of the ledger; None for no ledger.

    Raises:
      UserError: The key or the ledger cannot be used, or an optional package is missing.
    """
    if sign is None:
        if ledger is not None:
            raise UserError(f"ledger={ledger}: its checkpoints must be signed; set sign as well")
        return Recorder()
    extra.load("c2pa", "sign")
    signer = keys.load(sign)
    return Recorder(signer, Ledger(ledger, signer) if ledger is not None else None)


class Recorder:
    """What commands record about the images that they write.

    Without a signer this makes the manifest alone and imports no optional package.

    Args:
      signer: Certificates and key; None to leave images unsigned.
      ledger: Ledger to enter signed images into; None for no ledger.
    """

    def __init__(self, signer: Signer | None = None, ledger: Ledger | None = None):
        self._signer, self._ledger = signer, ledger

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of the files that are written beside an image and its manifest."""
        return () if self._ledger is None else (results.BUNDLE,)

    def finish(
        self,
        path: pathlib.Path,
        image: bytes,
        kind: str,
        facts: Mapping[str, Any],
        parent: bytes | None = None,
        ending: str = "",
        maps: Sequence["Map"] = (),
    ) -> Output:
        """Signs an image if there is a key.

        Args:
          path: Where the image is to lie.
          image: The whole file.
          kind: Pillow's name of its format.
          facts: The manifest, without the digest of the finished file.
          parent: The file that was restored; None for a generated image.
          ending: Ending that the manifest's name has in place of that of the image; by default
            .json is added to the name of the image.
          maps: Maps that lie beside the image.

        Raises:
          NotSigned: The image cannot be signed without a change of its pixels or metadata.
        """
        beside = path.with_suffix(ending) if ending else files.with_ending(path, results.MANIFEST)
        drawn = {files.with_ending(path, one.ending): one for one in maps}
        facts = {**facts, "maps": {one.name: _map_facts(p, one) for p, one in drawn.items()}}
        contents = {place: one.content for place, one in drawn.items()}
        if self._signer is None:
            return Output(path, image, facts, "", beside, contents)
        from gen_jax.provenance import credentials, pixels

        before = pixels.read(image)
        signature = {
            "format": "c2pa",
            "embedded": True,
            "algorithm": self._signer.algorithm,
            "certificates_sha256": self._signer.certificates_sha256,
            "pixels_sha256": pixels.digest(before),
        }
        facts = {**facts, "signature": signature}
        if self._ledger is not None:
            bundle = files.with_ending(path, results.BUNDLE).name
            facts["ledger"] = {"origin": self._ledger.origin, "bundle": bundle}
        signed = credentials.sign(image, kind, self._signer, facts, parent)
        # A file with one block more decodes as before; where more changed, the pixels must tell.
        if kind not in _INSERTED or not _is_insertion(image, signed):
            after = pixels.read(signed)
            if pixels.digest(after) != signature["pixels_sha256"]:
                raise credentials.NotSigned(f"signing changes the pixels of this {kind} file")
            if lost := pixels.lost_metadata(before, after):
                raise credentials.NotSigned(f"signing this {kind} file loses {', '.join(lost)}")
        if faults := credentials.read(signed).faults:
            raise credentials.NotSigned(f"the signature is not valid ({', '.join(faults)})")
        phash = "" if self._ledger is None else pixels.perceptual_hash(before)
        return Output(path, signed, facts, phash, beside, contents)

    def contents(self, finished: Sequence[Output]) -> dict[pathlib.Path, bytes]:
        """Returns the content of images and of all that is recorded beside them.

        Enters the images into the ledger if there is one: all of them under one checkpoint. An
        entry whose files are then not written does no harm, while the reverse would.

        Args:
          finished: What `finish` returned.
        """
        made: dict[pathlib.Path, bytes] = {}
        entries = []
        for output in finished:
            text = manifest.dumps(manifest.finished(output.facts, output.image))
            made |= {output.path: output.image, output.beside: text, **output.maps}
            if self._ledger is not None:
                from gen_jax.provenance import bundles

                entries.append(bundles.entry(output.image, text, output.facts, output.phash))
        if self._ledger is not None:
            for output, bundle in zip(finished, self._ledger.append(entries), strict=True):
                made[output.path.with_name(output.facts["ledger"]["bundle"])] = bundle
        return made


def _is_insertion(before: bytes, after: bytes) -> bool:
    """Returns whether a file is another one with a single block of bytes put in."""
    added = len(after) - len(before)
    same, differs = 0, len(before) + 1  # lengths of beginnings that agree, and that do not
    while differs - same > 1:
        middle = (same + differs) // 2
        if before.startswith(after[:middle]):
            same = middle
        else:
            differs = middle
    return added > 0 and after[same + added :] == before[same:]


def _map_facts(path: pathlib.Path, drawn: "Map") -> dict[str, Any]:
    digest = hashlib.sha256(drawn.content).hexdigest()
    return {"file": names.key(path.name), "sha256": digest, **drawn.facts}
