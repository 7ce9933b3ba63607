"""Signing keys and certificates: read from PEM or held elsewhere, and made for development.

A private key is in memory and in its file alone: it is part of no manifest, message or `repr`.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import os
import pathlib
import stat
from collections.abc import Callable
from typing import Any

from gen_jax.common import files
from gen_jax.common.errors import UserError
from gen_jax.provenance import extra

ENVIRONMENT = "env:"
"""What a key begins with that an environment variable holds."""

_YEARS = 10  # of a development certificate
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_BOUNDARY = "-----END CERTIFICATE-----"


@dataclasses.dataclass(frozen=True)
class Signer:
    """A certificate chain and the function that signs with its key.

    The key itself may be anywhere, such as in a hardware module behind PKCS#11.

    Attributes:
      certificates: PEM of the chain, that of the signer first.
      algorithm: "ed25519", "es256", "es384", "es512" or "ps256".
      sign: Returns the signature of bytes: 64 bytes for Ed25519, DER for ECDSA, PSS for RSA.
    """

    certificates: str
    algorithm: str
    sign: Callable[[bytes], bytes] = dataclasses.field(repr=False)

    @property
    def certificates_sha256(self) -> str:
        """SHA-256 of the PEM text of the chain."""
        return hashlib.sha256(self.certificates.encode("ascii")).hexdigest()


def make(path: pathlib.Path) -> pathlib.Path:
    """Makes a development key (Ed25519) with a certificate chain of its own.

    The key of the root certificate is thrown away, so that nobody can issue others by it.

    Args:
      path: File for the key and its chain, which only its owner may read. It must not exist.

    Returns:
      Path of the root certificate beside it, which verifiers trust: NAME.trust.pem.

    Raises:
      UserError: One of the files exists.
    """
    purpose = "make_key"
    ed25519 = extra.load("cryptography.hazmat.primitives.asymmetric.ed25519", purpose)
    serialization = extra.load("cryptography.hazmat.primitives.serialization", purpose)
    trust = files.with_ending(path.with_name(path.stem), ".trust.pem")
    for taken in (path, trust):
        if os.path.lexists(taken):
            raise UserError(f"make_key={taken}: exists already; name another file")
    root_key, key = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))
    root = _certificate("gen_jax development root", root_key.public_key(), root_key, None)
    leaf = _certificate("gen_jax development key", key.public_key(), root_key, root)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    # Created with its permissions: nobody may open the file in the moment before a chmod.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secret + leaf.public_bytes(pem) + root.public_bytes(pem))
        files.write_bytes(trust, root.public_bytes(pem))
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return trust


def load(source: str, name: str = "sign") -> Signer:
    """Reads a private key and its certificate chain from PEM.

    Args:
      source: A file that only its owner can read, or "env:NAME" for an environment variable.
      name: What the source is called in messages.

    Raises:
      UserError: It is missing, others can read it, or it holds no usable key with its certificate.
    """
    text = _text(source, name)
    x509 = extra.load("cryptography.x509", name)
    serialization = extra.load("cryptography.hazmat.primitives.serialization", name)
    expected = "expected PEM with an unencrypted private key, then its certificate chain"
    try:
        key = serialization.load_pem_private_key(text, None)
        chain = x509.load_pem_x509_certificates(text)
    except (ValueError, TypeError):  # whose words could quote the key
        raise UserError(f"{name}={source}: {expected}") from None
    if chain[0].public_key() != key.public_key():
        raise UserError(f"{name}={source}: the first certificate is not of this key; {expected}")
    pem = "".join(c.public_bytes(serialization.Encoding.PEM).decode("ascii") for c in chain)
    algorithm, sign = _signing(key, f"{name}={source}")
    return Signer(pem, algorithm, sign)


def public_key(certificates: str) -> Any:
    """Returns the public key of the first certificate of a PEM chain.

    Raises:
      ValueError: The PEM is damaged.
    """
    x509 = extra.load("cryptography.x509", "certificates")
    return x509.load_pem_x509_certificates(certificates.encode("ascii"))[0].public_key()


def is_issued_by(certificates: str, trusted: str) -> bool:
    """Returns whether a chain leads to one of several trusted certificates.

    Args:
      certificates: PEM of the chain, that of the signer first.
      trusted: PEM of root certificates.

    Raises:
      ValueError: A PEM is damaged.
    """
    x509 = extra.load("cryptography.x509", "certificates")
    invalid = extra.load("cryptography.exceptions", "certificates").InvalidSignature
    chain = x509.load_pem_x509_certificates(certificates.encode("ascii"))
    anchors = x509.load_pem_x509_certificates(trusted.encode("ascii"))
    for index, certificate in enumerate(chain):
        if certificate in anchors:
            return True
        issuers = [*anchors, *chain[index + 1 : index + 2]]
        for issuer in issuers:
            try:
                certificate.verify_directly_issued_by(issuer)
            except (ValueError, TypeError, invalid):
                continue
            if issuer in anchors:
                return True
            break
        else:
            return False
    return False


def read_certificates(path: str, name: str = "trust") -> str:
    """Reads trusted certificates from a PEM file.

    Raises:
      UserError: It cannot be read, or holds no certificate.
    """
    x509 = extra.load("cryptography.x509", name)
    try:
        text = files.read_text(path)
        x509.load_pem_x509_certificates(text.encode("ascii"))
    except OSError as error:
        raise UserError(f"{name}={path}: {error.strerror}; name a PEM file") from None
    except ValueError:
        raise UserError(f"{name}={path}: expected a PEM file with certificates") from None
    end = text.rindex(_BOUNDARY) + len(_BOUNDARY)
    return text[text.index("-----BEGIN CERTIFICATE-----") : end] + "\n"


def _text(source: str, name: str) -> bytes:
    if source.startswith(ENVIRONMENT):
        variable = source.removeprefix(ENVIRONMENT)
        if not os.environ.get(variable):
            raise UserError(f"{name}={source}: the environment has no variable {variable}")
        return os.environ[variable].encode("utf-8")
    try:
        mode = os.stat(source).st_mode
        data = pathlib.Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"{name}={source}: {error.strerror}; name a PEM file") from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise UserError(
            f"{name}={source}: other users can read this private key (mode {stat.S_IMODE(mode):o});"
            f" run chmod 600 {source}"
        )
    return data


def _signing(key: Any, where: str) -> tuple[str, Callable[[bytes], bytes]]:
    """Returns the algorithm of a private key and the function that signs with it."""
    primitives = "cryptography.hazmat.primitives"
    ec, ed25519, padding, rsa = (
        extra.load(f"{primitives}.asymmetric.{n}", "sign")
        for n in ("ec", "ed25519", "padding", "rsa")
    )
    hashes = extra.load(f"{primitives}.hashes", "sign")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519", key.sign
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        algorithm = CURVES[key.curve.name]
        digest = {"es256": hashes.SHA256, "es384": hashes.SHA384, "es512": hashes.SHA512}
        return algorithm, lambda data: key.sign(data, ec.ECDSA(digest[algorithm]()))
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
        return "ps256", lambda data: key.sign(data, pss, hashes.SHA256())
    raise UserError(f"{where}: expected a key of Ed25519, ECDSA (P-256, P-384, P-521) or RSA")


def _certificate(name: str, public: Any, issuer_key: Any, issuer: Any | None) -> Any:
    """Returns a certificate as C2PA asks for, of an authority if there is no issuer."""
    x509 = extra.load("cryptography.x509", "make_key")
    oid = extra.load("cryptography.x509.oid", "make_key")
    is_root = issuer is None
    subject = x509.Name(
        [
            x509.NameAttribute(oid.NameOID.ORGANIZATION_NAME, "Development, not for production"),
            x509.NameAttribute(oid.NameOID.COMMON_NAME, name),
        ]
    )
    now = datetime.datetime.now(datetime.UTC)
    usages = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = dict.fromkeys((*usages, "crl_sign", "encipher_only", "decipher_only"), False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if is_root else issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks that differ a little
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(is_root, 0 if is_root else None), critical=True)
        .add_extension(
            x509.KeyUsage(**usage, digital_signature=not is_root, key_cert_sign=is_root), True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
    )
    if not is_root:
        purpose = x509.ExtendedKeyUsage([oid.ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, False)
    return builder.sign(issuer_key, None)
