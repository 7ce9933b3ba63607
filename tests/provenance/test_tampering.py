"""Changes of signed outputs in a ledger: all are noticed, each with the right reason."""

import random
import shutil

import pytest
from PIL import Image

from gen_jax.provenance import audit, ledger_audit, maps, pixels
from gen_jax.provenance.ledger import Ledger
from gen_jax.provenance.recorder import Recorder
from gen_jax.provenance.verdict import Outcome
from tests.provenance import signed

pytest.importorskip("c2pa", reason="needs the extra provenance")

KINDS = {"a.png": "PNG", "b.jpg": "JPEG", "c.webp": "WEBP", "d.tif": "TIFF"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A folder of signed images with maps, all in a ledger, and the trusted certificate."""
    folder = tmp_path_factory.mktemp("outputs")
    signer, trust = signed.key(folder)
    (folder / "images").mkdir()
    record(folder, signer)
    return folder, trust


def record(folder, signer):
    log = Ledger(str(folder / "log"), signer)
    recorder, finished = Recorder(signer, log), []
    for seed, (name, kind) in enumerate(KINDS.items()):
        image, path = signed.image(kind, seed, quality=90), folder / "images" / name
        photo = pixels.read(image)
        drawn = maps.edit_maps(lambda top, bottom: 0.5, photo)
        facts = signed.facts(output=name, prompt="sharpen")
        finished.append(recorder.finish(path, image, kind, facts, image, maps=drawn))
    for path, content in recorder.contents(finished).items():
        path.write_bytes(content)
    log.close()


def flip(path, rng):
    """Flips one bit of a file."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return at


# Ending of the file that is changed -> the check that must fail.
FLIPPED = {
    "": "file",
    ".json": "manifest",
    ".ledger.json": "ledger",
    ".edit.png": "maps",
    ".edit_preview.png": "maps",
}


def check_flips(outputs, count):
    folder, trust = outputs
    rng = random.Random(count)
    for number in range(count):
        name = list(KINDS)[number % len(KINDS)]
        ending, due = rng.choice(list(FLIPPED.items()))
        path = folder / "images" / (name + ending)
        whole = path.read_bytes()
        at = flip(path, rng)
        checks = audit.audit(folder / "images" / name, trust).verdict.checks
        failed = {check.name for check in checks if check.outcome is Outcome.FAILED}
        # A manifest that is still one differs from the signed one and from the one in the ledger.
        due = {due} if due != "manifest" else {"manifest", "signed manifest", "ledger", "file"}
        assert failed & due, (name, ending, at, [c.detail for c in checks])
        path.write_bytes(whole)


def test_500_flipped_bits_are_noticed_and_unchanged_files_are_valid(outputs):
    check_flips(outputs, 500)
    folder, trust = outputs
    for _ in range(25):
        for name in KINDS:
            verdict = audit.audit(folder / "images" / name, trust).verdict
            assert verdict.outcome is Outcome.OK, verdict.line()


@pytest.mark.nightly
def test_10000_flipped_bits_are_noticed_and_1000_copies_are_valid(outputs, tmp_path):
    check_flips(outputs, 10_000)
    folder, trust = outputs
    for number in range(250):
        copy = shutil.copytree(folder / "images", tmp_path / str(number))
        for name in KINDS:
            assert audit.audit(copy / name, trust).verdict.outcome is Outcome.OK
        shutil.rmtree(copy)


def failed(outputs, folder, name, with_ledger=False):
    """The details of the checks that fail."""
    place, trust = outputs
    entered = ledger_audit.read(str(place / "log"), trust) if with_ledger else None
    checks = audit.audit(folder / name, trust, entered).verdict.checks
    return {c.name: c.detail for c in checks if c.outcome is Outcome.FAILED}


def test_files_that_are_swapped_copied_or_made_again_are_noticed(outputs, tmp_path):
    place, _ = outputs
    folder = shutil.copytree(place / "images", tmp_path / "images")
    for ending, due in ((".ledger.json", "another file"), (".json", "describes b.jpg")):
        shutil.copy(folder / f"b.jpg{ending}", folder / f"a.png{ending}")
        assert any(due in detail for detail in failed(outputs, folder, "a.png").values())
        shutil.copy(place / "images" / f"a.png{ending}", folder)
    text = (folder / "d.tif.json").read_bytes()
    (folder / "d.tif.json").write_bytes(text.replace(b'"sharpen"', b'"denoise"'))
    details = failed(outputs, folder, "d.tif")
    assert details["ledger"] == "the manifest was changed"
    assert details["signed manifest"].endswith("differs in prompt")
    bundle = folder / "a.png.ledger.json"
    bundle.write_bytes(bundle.read_bytes().replace(b"\n  ", b"\n   ", 1))
    assert failed(outputs, folder, "a.png")["ledger"].endswith("is damaged")
    bundle.unlink()
    assert "is missing" in failed(outputs, folder, "a.png")["ledger"]
    (folder / "a.png.edit.png").unlink()
    assert "is missing" in failed(outputs, folder, "a.png")["maps"]
    # Saved again: without the signature, and for JPEG with other pixels.
    for name, kind, due in (("a.png", "PNG", "are the same"), ("b.jpg", "JPEG", "pixels differ")):
        with Image.open(place / "images" / name) as image:
            image.convert("RGB").save(folder / name, kind)
        details = failed(outputs, folder, name)
        assert due in details["file"] and "says that the file is signed" in details["signature"]
        (folder / f"{name}.json").unlink()
        details = failed(outputs, folder, name, with_ledger=True)
        phrase = "its pixels are those" if kind == "PNG" else "it resembles entry 1"
        assert phrase in details["ledger"]
    # Made again by somebody else with a key, a ledger and a trusted certificate of their own.
    stranger, _ = signed.key(tmp_path)
    record(tmp_path, stranger)
    details = failed(outputs, tmp_path / "images", "c.webp", with_ledger=True)
    assert "who is not trusted" in details["signature"] and "trusted" in details["ledger"]


def test_the_ledger_holds_the_whole_file_also_what_c2pa_leaves_unsigned(outputs, tmp_path):
    place, _ = outputs
    data = (place / "images" / "a.png").read_bytes()
    at = data.index(bytes(64), data.index(b"c2pa")) + 32
    (tmp_path / "a.png").write_bytes(data[:at] + b"\1" + data[at + 1 :])
    # Without a manifest beside it the signature is all there is, and it does not cover this byte.
    assert "signature" not in failed(outputs, tmp_path, "a.png")
    assert "not in the ledger" in failed(outputs, tmp_path, "a.png", with_ledger=True)["ledger"]
