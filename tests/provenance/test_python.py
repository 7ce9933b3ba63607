"""The functions for other programs, and what the default imports."""

import subprocess
import sys

import pytest

from gen_jax import provenance
from gen_jax.common.errors import UserError
from gen_jax.provenance.verdict import Outcome
from tests.processes import ROOT
from tests.provenance import signed


def test_images_are_recorded_and_verified_from_python(tmp_path):
    pytest.importorskip("c2pa", reason="needs the extra provenance")
    trust = provenance.make_key(tmp_path / "key.pem")
    log = str(tmp_path / "log")
    recorder = provenance.open_recorder(str(tmp_path / "key.pem"), log)
    image, path = signed.image(), tmp_path / "images" / "a.png"
    path.parent.mkdir()
    output = recorder.finish(path, image, "PNG", signed.facts(), image)
    for place, content in recorder.contents([output]).items():
        place.write_bytes(content)
    assert provenance.read_manifest(path)["signature"]["format"] == "c2pa"
    assert provenance.newest_checkpoint(log).startswith("gen_jax.ledger/")
    verdicts = provenance.verify([path.parent], trust=str(trust), ledger=log)
    assert [one.outcome for one in verdicts] == [Outcome.OK, Outcome.OK]
    with pytest.raises(UserError, match="its checkpoints must be signed; set sign"):
        provenance.open_recorder(None, log)
    with pytest.raises(UserError, match="no manifest beside it"):
        provenance.read_manifest(tmp_path / "b.png")
    (tmp_path / "images" / "a.png.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.png\.json: is not JSON"):
        provenance.read_manifest(path)


def test_an_unsigned_image_needs_no_optional_package(tmp_path):
    code = """
import pathlib, sys
sys.modules |= dict.fromkeys(("c2pa", "pymerkle", "cryptography"))  # importing them fails
from gen_jax import provenance
from gen_jax.common.errors import UserError
from tests.provenance import signed
recorder = provenance.open_recorder()
output = recorder.finish(pathlib.Path("a.png"), signed.image(), "PNG", signed.facts())
for path, content in recorder.contents([output]).items():
    path.write_bytes(content)
print([verdict.outcome.value for verdict in provenance.verify(["a.png"])])
try:
    provenance.make_key("key.pem")
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = done.stdout.splitlines()
    assert first == "['ok']"
    assert second.startswith("make_key: needs the optional packages of the extra provenance")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.png.json"]
