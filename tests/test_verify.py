"""The command `verify` on images that were really restored."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from gen_jax import restore
from gen_jax.common.errors import UserError
from gen_jax.pipelines.replay import Replayer
from gen_jax.provenance import keys, manifest, verdict, verification
from tests import tiny_restorer
from tests.processes import call, one_line_error

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """A folder with an original and two restored images, made by a tiny restorer."""
    folder = tmp_path_factory.mktemp("verify")
    run = tiny_restorer.make(folder / "run", text=True)
    y, x = np.mgrid[:40, :56]
    image = np.stack([127 + 100 * np.sin(0.3 * x + c) * np.cos(0.2 * y) for c in range(3)], -1)
    source = folder / "images" / "photo.png"
    source.parent.mkdir()
    Image.fromarray(image.round().astype(np.uint8)).save(source)
    for name, values in (("a.png", {}), ("b.jpg", {"scale": 2, "prompt": "sharpen it"})):
        out = str(folder / "images" / name)
        beside = name == "a.png"  # a comparison and maps
        with flagsaver.flagsaver(run=run, out=out, compare=beside, maps=beside, **values):
            assert restore.main(["restore", str(source)]) == 0
    return folder / "images"


@pytest.fixture
def folder(restored, tmp_path):
    return shutil.copytree(restored, tmp_path / "images")


def verified(*paths, trust="", replay=False, originals=None):
    """The exit status of a verification, and its lines."""
    check = Replayer(originals).check if replay else None
    found = verification.verify([str(path) for path in paths], trusted=trust, replay=check)
    verdicts = list(found)
    return verdict.exit_status(verdicts), [one.line() for one in verdicts]


def test_unchanged_images_are_valid_and_repeat_bit_for_bit(folder):
    status, lines = verified(folder, replay=True)
    assert status == 0 and len(lines) == 2  # no original, comparison or map
    assert all("file: unchanged" in line and "replay: bit-exact" in line for line in lines)


def test_each_change_is_noticed_with_its_reason(folder):
    image, facts = folder / "a.png", folder / "a.png.json"
    data, text = image.read_bytes(), facts.read_bytes()
    image.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    status, lines = verified(folder)
    assert status == 1 and "INVALID" in lines[0] and "file: changed" in lines[0]
    assert lines[1].startswith("valid")
    image.write_bytes(data)
    facts.write_bytes(text.replace(b'"strength": 1.0', b'"strength":1.0'))
    assert "manifest: a.png.json was written or edited" in verified(image)[1][0]
    facts.write_bytes(text)
    (folder / "a.png.edit.png").unlink()
    assert "maps: a.png.edit.png is missing" in verified(image)[1][0]
    image.rename(folder / "c.png")
    facts.rename(folder / "c.png.json")
    assert "manifest: describes a.png" in verified(folder / "c.png")[1][0]
    (folder / "b.jpg").unlink()
    status, lines = verified(folder / "b.jpg.json")
    assert status == 1 and "file: is missing" in lines[0]


def test_what_cannot_be_checked_says_why(folder):
    (folder / "mine.png").write_bytes((folder / "photo.png").read_bytes())
    status, lines = verified(folder)
    assert status == 2 and "mine.png  manifest: there is none" in lines[2]
    facts = json.loads((folder / "a.png.json").read_text())
    old = {k: v for k, v in facts.items() if k not in ("schema", "version", "kind")}
    (folder / "a.png.json").write_text(json.dumps(old))
    status, lines = verified(folder / "a.png")
    assert status == 0 and "of an earlier release" in lines[0]
    status, lines = verified(folder / "a.png", replay=True)
    assert status == 2 and "an earlier release, which lacks settings" in lines[0]
    (folder / "photo.png").write_bytes((folder / "mine.png").read_bytes() + b" ")
    facts = json.loads((folder / "b.jpg.json").read_text())
    facts["input"] = "photo.png"
    (folder / "b.jpg.json").write_bytes(manifest.dumps(facts))
    assert "is not the file that was restored" in verified(folder / "b.jpg", replay=True)[1][0]
    (folder / "photo.png").unlink()
    assert "photo.png is not here" in verified(folder / "b.jpg", replay=True)[1][0]
    (folder / "originals").mkdir()
    shutil.copy(folder / "mine.png", folder / "originals" / "photo.png")
    values = {"replay": True, "originals": folder / "originals"}
    assert verified(folder / "b.jpg", **values)[0] == 0
    with pytest.raises(UserError, match="no such file"):
        verified(folder / "nothing.png")


def test_a_replay_tells_other_settings_from_other_bits(folder):
    facts = json.loads((folder / "a.png.json").read_text())
    facts["strength"] = 0.5
    (folder / "a.png.json").write_bytes(manifest.dumps(facts))
    status, lines = verified(folder / "a.png", replay=True)
    assert status == 1 and "replay: different, by at most" in lines[0]
    with Image.open(folder / "a.png") as image:
        near = np.asarray(image).copy()
    near[:2, :2] = near[:2, :2] ^ 1
    Image.fromarray(near).save(folder / "a.png")
    facts["strength"], facts["environment"]["threads"] = 1.0, 99
    made = manifest.finished(facts, (folder / "a.png").read_bytes())
    (folder / "a.png.json").write_bytes(manifest.dumps(made))
    status, lines = verified(folder / "a.png", replay=True)
    assert status == 0 and "within tolerance, by at most 1 of 255 levels (threads 99" in lines[0]


def test_a_signed_image_is_trusted_by_its_certificate_alone(folder, capsys):
    pytest.importorskip("c2pa", reason="needs the extra provenance")
    key, source, log = folder.parent / "key.pem", folder / "photo.png", folder.parent / "log"
    trust = keys.make(key)
    facts = json.loads((folder / "a.png.json").read_text())
    for name in ("s.png", "s.jpg"):
        values = {"run": facts["run"], "out": str(folder / name), "ledger": str(log)}
        with flagsaver.flagsaver(compare=False, sign=str(key), **values):
            assert restore.main(["restore", str(source)]) == 0
            with pytest.raises(UserError, match=f"{name}.* exists already"):
                restore.main(["restore", str(source)])
    said = capsys.readouterr().out.encode()
    secret = key.read_bytes().splitlines()[1]
    written = [path.read_bytes() for path in (*folder.iterdir(), log / "ledger.sqlite")]
    assert not any(secret in text for text in (said, *written))
    images = (folder / "s.png", folder / "s.jpg")
    status, lines = verified(*images, trust=trust.read_text(), replay=True)
    assert status == 0 and all("ledger: proved by the bundle" in line for line in lines)
    assert all("trusted; signed manifest: the one" in line for line in lines)
    assert all("bit-exact" in line for line in lines)
    done = call(
        "verify",
        str(folder),
        f"--ledger={log}",
        f"--trust={trust}",
        "--json",
        f"--report={log}.csv",
    )
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(pathlib.Path(f"{log}.csv").read_text().splitlines()) == 6
    # The images that were not signed are noticed; the ledger comes first.
    assert done.returncode == 1 and [v["outcome"] for v in verdicts] == [
        *("ok", "failed", "failed", "ok", "ok")
    ]
    assert verdicts[3]["checks"]["ledger"]["detail"].startswith("in the ledger, entry 1 of 2 at")
    assert verdicts[2]["checks"]["ledger"]["detail"].startswith("not in the ledger")
    for flags_, words in (
        (("--make-key", str(key)), "exists already"),
        (("--trust=nothing.pem", "x.png"), "--trust=nothing.pem: No such file"),
        (("x.png",), "x.png: no such file"),
        ((), "name images, manifests or folders"),
        (("x.png", "--checkpoint=c"), "--checkpoint goes with --ledger"),
    ):
        assert words in one_line_error(call("verify", *flags_))


def test_it_starts_quickly_and_without_jax(folder):
    done = call("verify", str(folder))
    assert done.returncode == 0 and done.stdout.endswith("2 of 2 are valid\n"), done.stderr
    code = (
        "import sys; from gen_jax.provenance import audit; import pathlib;"
        f"audit.audit(pathlib.Path({str(folder / 'a.png')!r}));"
        "print([m for m in ('jax', 'cv2', 'c2pa', 'pymerkle') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_replay_has_the_settings_by_hand_and_the_size(folder):
    facts = json.loads((folder / "a.png.json").read_text())
    out, source = folder / "h.png", folder / "photo.png"
    by_hand = {"noise": 12.0, "jpeg": 60.0, "size": "75x51", "compare": False}
    with flagsaver.flagsaver(run=facts["run"], out=str(out), **by_hand):
        assert restore.main(["restore", str(source)]) == 0
    written = json.loads((folder / "h.png.json").read_text())
    assert written["given"] == {"noise": 12.0, "jpeg": 60.0} and written["resized_to"] == [75, 51]
    status, lines = verified(out, replay=True)
    assert status == 0 and "replay: bit-exact" in lines[0]
    for key, value in (("given", {"noise": 30.0, "jpeg": 60.0}), ("resized_to", [76, 51])):
        (folder / "h.png.json").write_bytes(manifest.dumps({**written, key: value}))
        assert "bit-exact" not in verified(out, replay=True)[1][0], key


def test_an_edit_map_compares_with_the_resized_original(folder):
    facts = json.loads((folder / "a.png.json").read_text())
    values = {"run": facts["run"], "size": "75x51", "maps": True, "compare": False}
    for name, strength in (("none.png", 0.0), ("all.png", 1.0)):
        with flagsaver.flagsaver(out=str(folder / name), strength=strength, **values):
            assert restore.main(["restore", str(folder / "photo.png")]) == 0
        edit = json.loads((folder / f"{name}.json").read_text())["maps"]["edit"]
        assert (edit["largest"] > 0) == (strength > 0)
        assert Image.open(folder / edit["file"]).size == (75, 51)


def test_an_animation_is_computed_again(folder):
    facts, source = json.loads((folder / "a.png.json").read_text()), folder / "moving.gif"
    first = Image.open(folder / "photo.png")
    first.save(source, save_all=True, append_images=[first.rotate(9)], duration=40)
    with flagsaver.flagsaver(run=facts["run"], out=str(folder / "again.gif"), compare=False):
        assert restore.main(["restore", str(source)]) == 0
    status, lines = verified(folder / "again.gif", replay=True)
    assert status == 0 and "replay: bit-exact" in lines[0]
