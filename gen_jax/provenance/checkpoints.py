"""Signed checkpoints of a ledger, as signed notes that witnesses can countersign.

The text is a checkpoint of C2SP (https://c2sp.org/tlog-checkpoint) in a signed note
(https://c2sp.org/signed-note): origin, size, root in base64, two extensions (the date, and the
SHA-256 of the signer's certificates), a blank line, and a line for each signature. Lines of other
signers are kept and ignored.
"""

import base64
import binascii
import dataclasses
import datetime
import hashlib
from typing import Any

from gen_jax.provenance import extra, keys
from gen_jax.provenance.keys import Signer

_DASH = "\u2014 "
_DATE, _CERTIFICATES = "date ", "certificates "
_ED25519 = b"\x01"


class CheckpointError(ValueError):
    """A checkpoint is damaged, or not signed as it should be; the message is one phrase."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state of a ledger.

    Attributes:
      origin: Name of the ledger.
      size: Number of entries.
      root: Root of the Merkle tree over them.
      date: When it was signed, UTC, such as "2026-12-01T06:30:00Z".
      certificates_sha256: SHA-256 of the PEM text of the signer's certificate chain.
    """

    origin: str
    size: int
    root: bytes
    date: str
    certificates_sha256: str

    @property
    def text(self) -> str:
        """The signed part of the note."""
        root = base64.b64encode(self.root).decode("ascii")
        extensions = f"{_DATE}{self.date}\n{_CERTIFICATES}{self.certificates_sha256}\n"
        return f"{self.origin}\n{self.size}\n{root}\n{extensions}"


def now() -> str:
    """Returns the time as checkpoints have it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sign(checkpoint: Checkpoint, signer: Signer) -> str:
    """Returns the signed note of a checkpoint."""
    text = checkpoint.text
    identity = _key_id(checkpoint.origin, signer.algorithm, signer.certificates)
    signature = base64.b64encode(identity + signer.sign(text.encode("utf-8"))).decode("ascii")
    return f"{text}\n{_DASH}{checkpoint.origin} {signature}\n"


def verify(note: str, certificates: str) -> Checkpoint:
    """Reads a checkpoint and verifies the signature of the ledger.

    Args:
      note: The signed note.
      certificates: PEM of the chain of the ledger's signer.

    Raises:
      CheckpointError: The note is damaged, or has no valid signature by this signer.
    """
    checkpoint, lines = _parse(note)
    if checkpoint.certificates_sha256 != hashlib.sha256(certificates.encode("utf-8")).hexdigest():
        raise CheckpointError("the checkpoint was signed by the key of other certificates")
    try:
        key = keys.public_key(certificates)
        algorithm = _algorithm(key)
        identity = _key_id(checkpoint.origin, algorithm, certificates)
    except ValueError:
        raise CheckpointError("the certificates are damaged") from None
    for line in lines:
        name, _, encoded = line.removeprefix(_DASH).rpartition(" ")
        try:
            data = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise CheckpointError("a signature of the checkpoint is damaged") from None
        if base64.b64encode(data).decode("ascii") != encoded:  # bits that decoding ignores
            raise CheckpointError("a signature of the checkpoint is damaged")
        if name == checkpoint.origin and data[:4] == identity:
            if _is_valid(key, algorithm, data[4:], checkpoint.text.encode("utf-8")):
                return checkpoint
            raise CheckpointError("the signature of the checkpoint is not valid")
    raise CheckpointError("the checkpoint is not signed by the key of these certificates")


def _parse(note: str) -> tuple[Checkpoint, list[str]]:
    text, blank, signatures = note.partition("\n\n")
    try:
        origin, size, root, date, certificates = text.split("\n")
        checkpoint = Checkpoint(
            origin,
            int(size),
            base64.b64decode(root, validate=True),
            date.removeprefix(_DATE),
            certificates.removeprefix(_CERTIFICATES),
        )
    except ValueError:
        raise CheckpointError("the checkpoint is damaged") from None
    lines = signatures.split("\n")
    is_whole = blank and lines.pop() == "" and all(line.startswith(_DASH) for line in lines)
    if not is_whole or not lines or checkpoint.text != text + "\n":
        raise CheckpointError("the checkpoint is damaged")
    return checkpoint, lines


def _key_id(name: str, algorithm: str, certificates: str) -> bytes:
    """Returns the four bytes by which a signature names its key."""
    serialization = extra.load("cryptography.hazmat.primitives.serialization", "ledger")
    key, encoding = keys.public_key(certificates), serialization.Encoding
    if algorithm == "ed25519":
        raw = key.public_bytes(encoding.Raw, serialization.PublicFormat.Raw)
        kind = _ED25519
    else:
        raw = key.public_bytes(encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        kind = b"\xff" + f"gen_jax/{algorithm}".encode()
    return hashlib.sha256(name.encode("utf-8") + b"\n" + kind + raw).digest()[:4]


def _algorithm(key: Any) -> str:
    ec = extra.load("cryptography.hazmat.primitives.asymmetric.ec", "ledger")
    rsa = extra.load("cryptography.hazmat.primitives.asymmetric.rsa", "ledger")
    if isinstance(key, ec.EllipticCurvePublicKey):
        return keys.CURVES.get(key.curve.name, key.curve.name)
    return "ps256" if isinstance(key, rsa.RSAPublicKey) else "ed25519"


def _is_valid(key: Any, algorithm: str, signature: bytes, data: bytes) -> bool:
    hashes = extra.load("cryptography.hazmat.primitives.hashes", "ledger")
    ec = extra.load("cryptography.hazmat.primitives.asymmetric.ec", "ledger")
    padding = extra.load("cryptography.hazmat.primitives.asymmetric.padding", "ledger")
    invalid = extra.load("cryptography.exceptions", "ledger").InvalidSignature
    options: tuple[Any, ...] = ()
    if algorithm.startswith("es"):
        digests = {"es256": hashes.SHA256, "es384": hashes.SHA384, "es512": hashes.SHA512}
        options = (ec.ECDSA(digests[algorithm]()),)
    elif algorithm == "ps256":
        digest = hashes.SHA256()
        options = (padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    try:
        key.verify(signature, data, *options)
    except invalid:
        return False
    return True
