"""Keys: made, read, refused, and never shown."""

import datetime
import stat

import pytest

from gen_jax.common.errors import UserError
from gen_jax.provenance import keys

pytest.importorskip("c2pa", reason="needs the extra provenance")
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa


def test_a_development_key_is_for_its_owner_alone(tmp_path, monkeypatch):
    path = tmp_path / "new" / "key.pem"
    trust = keys.make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert trust == tmp_path / "new" / "key.trust.pem" and "PRIVATE" not in trust.read_text()
    signer = keys.load(str(path))
    secret = path.read_text().split("-----END PRIVATE KEY-----")[0].splitlines()[1]
    assert secret not in repr(signer) + signer.certificates
    assert keys.is_issued_by(signer.certificates, trust.read_text())
    keys.public_key(signer.certificates).verify(signer.sign(b"data"), b"data")
    with pytest.raises(UserError, match="exists already"):
        keys.make(path)
    path.chmod(0o640)
    with pytest.raises(UserError, match=r"other users can read .* run chmod 600"):
        keys.load(str(path))
    monkeypatch.setenv("SIGNING_KEY", path.read_text())
    assert keys.load("env:SIGNING_KEY").certificates == signer.certificates
    other = keys.make(tmp_path / "other.pem")
    assert not keys.is_issued_by(signer.certificates, other.read_text())
    assert keys.is_issued_by(signer.certificates, other.read_text() + trust.read_text())


def test_what_is_no_key_is_refused_in_one_line_that_does_not_quote_it(tmp_path):
    keys.make(tmp_path / "a.pem")
    keys.make(tmp_path / "b.pem")
    end = "-----END PRIVATE KEY-----\n"
    key = (tmp_path / "a.pem").read_text().split(end)[0] + end
    certificates = (tmp_path / "b.pem").read_text().split(end)[1]
    for text, words in (
        ("", "expected PEM"),
        (key, "expected PEM"),
        (certificates, "expected PEM"),
        (key + certificates, "the first certificate is not of this key"),
    ):
        path = tmp_path / "bad.pem"
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(UserError, match=words) as caught:
            keys.load(str(path))
        assert "\n" not in str(caught.value) and key.splitlines()[1] not in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        keys.load(str(tmp_path / "none.pem"))
    with pytest.raises(UserError, match="no variable NO_SUCH_KEY"):
        keys.load("env:NO_SUCH_KEY")
    (tmp_path / "bad.pem").write_text("{}")
    with pytest.raises(UserError, match="expected a PEM file with certificates"):
        keys.read_certificates(str(tmp_path / "bad.pem"))


@pytest.mark.parametrize("kind", ["es256", "es384", "ps256"])
def test_keys_of_other_kinds_sign(tmp_path, kind):
    curves = {"es256": ec.SECP256R1(), "es384": ec.SECP384R1()}
    key = (
        ec.generate_private_key(curves[kind])
        if kind in curves
        else rsa.generate_private_key(65537, 2048)
    )
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "other")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now.replace(year=2100))
    ).sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path / "key.pem"
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    path.chmod(0o600)
    signer = keys.load(str(path))
    assert signer.algorithm == kind and len(signer.sign(b"data")) > 60
