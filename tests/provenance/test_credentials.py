"""Signatures inside files: the library alone reads them; each kind of tampering has its reason."""

import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from gen_jax.provenance import audit, credentials, keys, manifest
from gen_jax.provenance.recorder import Recorder
from gen_jax.provenance.verdict import Outcome
from tests.provenance import signed

c2pa = pytest.importorskip("c2pa", reason="needs the extra provenance")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return signed.key(tmp_path_factory.mktemp("keys"))


def write(folder, image, facts):
    output = Recorder().finish(folder / "a.png", image, "PNG", facts)
    for path, content in Recorder().contents([output]).items():
        path.write_bytes(content)
    return folder / "a.png"


def sign(signer, image, facts, parent=None, kind="PNG"):
    """The signed file and its manifest."""
    output = Recorder(signer).finish(pathlib.Path("a"), image, kind, facts, parent)
    return output.image, output.facts


def outcomes(path, trusted=""):
    checks = audit.audit(path, trusted).verdict.checks
    return {check.name: (check.outcome, check.detail) for check in checks}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_the_library_alone_reads_what_was_signed(key, kind):
    signer, trust = key
    image, parent = signed.image(kind), signed.image("JPEG", seed=1)
    done, facts = sign(signer, image, signed.facts(input="b.jpg"), parent, kind)
    assert 0 < len(done) - len(image) < 20_000
    with Image.open(io.BytesIO(done)) as new, Image.open(io.BytesIO(image)) as old:
        np.testing.assert_array_equal(np.asarray(new), np.asarray(old))
    settings = {"trust": {"trust_anchors": trust}}
    context = c2pa.Context.from_dict(settings)
    reader = c2pa.Reader(credentials.MIME[kind], io.BytesIO(done), context=context)
    assert reader.get_validation_state() == "Trusted"
    active = reader.get_active_manifest()
    assert [(i["title"], i["relationship"]) for i in active["ingredients"]] == [
        ("b.jpg", "parentOf")
    ]
    actions, own = (a["data"] for a in active["assertions"])
    assert [a["action"] for a in actions["actions"]] == ["c2pa.opened", "c2pa.enhanced"]
    assert actions["actions"][1]["digitalSourceType"].endswith("/algorithmicallyEnhanced")
    assert json.loads(own["json"]) == facts and "thumbnail" not in active
    read = credentials.read(done, trust)
    assert read == credentials.Credentials((), True, "gen_jax development key", facts)


def test_a_chain_of_restorations_keeps_the_credentials_of_the_original(key):
    signer, trust = key
    first, _ = sign(signer, signed.image(), signed.facts("generate"))
    second, _ = sign(signer, signed.image(seed=1), signed.facts(), first)
    reader = c2pa.Reader("image/png", io.BytesIO(second))
    manifests = json.loads(reader.json())["manifests"].values()
    kinds = {a["action"] for m in manifests for a in m["assertions"][0]["data"]["actions"]}
    assert len(manifests) == 2 and "c2pa.created" in kinds
    assert credentials.read(second, trust).is_trusted
    # An original whose own signature is broken is recorded as such, and can be restored.
    broken = first[:-20] + bytes([first[-20] ^ 1]) + first[-19:]
    assert credentials.read(broken).faults
    third, _ = sign(signer, signed.image(seed=1), signed.facts(), broken)
    assert credentials.read(third, trust).is_trusted


def test_each_kind_of_tampering_has_its_reason(key, tmp_path):
    signer, trust = key
    plain = signed.image()
    done, facts = sign(signer, plain, signed.facts(prompt="a"), plain)
    path = write(tmp_path, done, facts)
    assert outcomes(path, trust)["signature"][0] is Outcome.OK
    assert audit.audit(path, trust).verdict.outcome is Outcome.OK
    # Metadata stripped, with a manifest that fits: the manifest says that there is a signature.
    write(tmp_path, plain, facts)
    assert "says that the file is signed" in outcomes(path)["signature"][1]
    # Stripped from both: whoever demands a trusted signature notices.
    write(tmp_path, plain, signed.facts())
    assert outcomes(path)["signature"][0] is Outcome.ABSENT
    assert outcomes(path, trust)["signature"] == (Outcome.FAILED, "there is none")
    # The manifest beside the file was edited.
    for values in ({"prompt": "b"}, {"seconds": 2}):
        write(tmp_path, done, {**facts, **values})
        words = f"differs in {next(iter(values))}"
        assert words in outcomes(path)["signed manifest"][1]
    # Signed by another key, by another program, or over other pixels.
    (tmp_path / "other").mkdir()
    other, other_trust = signed.key(tmp_path / "other")
    assert "who is not trusted" in (
        write(tmp_path, *sign(other, plain, signed.facts(), plain))
        and outcomes(path, trust)["signature"][1]
    )
    assert outcomes(path, other_trust)["signature"][0] is Outcome.OK
    at = done.index(b"IDAT") + 9
    write(tmp_path, done, facts)
    path.write_bytes(done[:at] + bytes([done[at] ^ 1]) + done[at + 1 :])
    checks = outcomes(path, trust)
    assert checks["signature"][0] is Outcome.FAILED and "dataHash" in checks["signature"][1]
    assert "cannot be decoded" in checks["file"][1] or "pixels differ" in checks["file"][1]


def test_files_of_other_programs_and_damaged_ones(key, tmp_path):
    signer, trust = key
    path, buffer = tmp_path / "a.png", io.BytesIO()
    actions = [{"action": "c2pa.created", "digitalSourceType": credentials._IPTC + "digitalArt"}]
    builder = c2pa.Builder.from_json(
        {"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}]}
    )
    algorithm = c2pa.C2paSigningAlg.ED25519
    native = c2pa.Signer.from_callback(signer.sign, algorithm, signer.certificates)
    builder.sign(native, "image/png", io.BytesIO(signed.image()), buffer)
    path.write_bytes(buffer.getvalue())
    audited = audit.audit(path, trust)
    assert audited.verdict.outcome is Outcome.OK and audited.facts is None
    assert audit.audit(write(tmp_path, path.read_bytes(), signed.facts())).verdict.outcome is (
        Outcome.OK
    )
    (tmp_path / "a.png.json").unlink()
    for data in (b"", b"\x89PNG c2pa", b"\xff\xd8\xff" + b"c2pa" * 9, b"RIFFc2pa", b"no image"):
        path.write_bytes(data)
        verdict = audit.audit(path).verdict
        assert verdict.outcome is not Outcome.OK and "\n" not in verdict.line()


def test_an_embedded_manifest_that_is_no_manifest_is_not_taken(key):
    signer, _ = key
    wrong = {**signed.facts("generate"), "version": 7}
    assert credentials.read(credentials.sign(signed.image(), "PNG", signer, wrong)).facts is None
    assert manifest.VERSION != 7
    with pytest.raises(credentials.NotSigned, match="ingredientId not found"):
        sign(signer, signed.image(), signed.facts())
    with pytest.raises(credentials.NotSigned, match="cannot be signed"):
        credentials.sign(b"no image", "PNG", signer, signed.facts())
    other = keys.Signer(signer.certificates, "ed25519", lambda data: b"")
    with pytest.raises(credentials.NotSigned, match="cannot be signed"):
        credentials.sign(signed.image(), "PNG", other, signed.facts())


@pytest.mark.parametrize("share,action,source", [
    (0.0, "c2pa.enhanced", "algorithmicallyEnhanced"),
    (0.5, "c2pa.edited", "compositeWithTrainedAlgorithmicMedia"),
])  # fmt: skip
def test_generated_detail_makes_a_restoration_an_edit(key, share, action, source):
    signer, _ = key
    done, _ = sign(signer, signed.image(), signed.facts(input="b.jpg", generative=share), b"x")
    reader = c2pa.Reader("image/png", io.BytesIO(done))
    actions = reader.get_active_manifest()["assertions"][0]["data"]["actions"]
    assert actions[1]["action"] == action and actions[1]["digitalSourceType"].endswith(source)


@pytest.mark.parametrize("kind", ["GIF", "AVIF"])
def test_other_formats_are_refused_by_name(key, kind):
    with pytest.raises(credentials.NotSigned, match=f"{kind} files are not signed; write one of"):
        sign(key[0], signed.image(kind), signed.facts(input="b.jpg"), kind=kind)
