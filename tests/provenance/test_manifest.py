"""Manifests: one schema, written in one way, and what a reader refuses."""

import hashlib
import json

import jsonschema
import pytest

from gen_jax.provenance import environment, manifest

FACTS = {
    "output": "a.png",
    "run": "package:restore",
    "checkpoint_step": None,
    "weights_sha256": "0" * 64,
    "environment": {
        **{"gen_jax": "0", "git": {}, "packages": {}, "platform": "cpu", "device_kind": "cpu"},
        **environment.compute_settings(),
    },
}


def test_a_manifest_is_read_as_it_was_written_and_in_no_other_way():
    jsonschema.Draft202012Validator.check_schema(manifest.schema())
    made = manifest.finished(manifest.new("restore", {**FACTS, "later": 1.5}), b"image")
    assert made["sha256"] == hashlib.sha256(b"image").hexdigest() and made["maps"] == {}
    data = manifest.dumps(made)
    assert manifest.loads(data) == made  # a key that this version does not know is kept
    for wrong, words in (
        (data.replace(b"\n", b" ", 1), "edited by another program"),
        (data[:-9], "not JSON"),
        (b"[1]", "is no manifest"),
        (b'{"sha256": 1}', "is no manifest"),
        (b"[" * 100_000, "not JSON"),
        (data.replace(b'"version": 1', b'"version": 2'), "version 2; expected"),
        (data.replace(b'"kind": "restore"', b'"kind": "resized"'), r"\$.kind: 'resized'"),
        (data.replace(b'"run"', b'"ran"'), "'run' is a required property"),
    ):
        with pytest.raises(manifest.ManifestError, match=words):
            manifest.loads(wrong)


def test_files_of_earlier_releases_have_the_version_0(tmp_path):
    old = {"input": "a.jpg", "input_sha256": "1" * 64, "output": "a.png", "sha256": "2" * 64}
    (tmp_path / "a.png.json").write_text(json.dumps(old))
    assert manifest.beside(tmp_path / "a.png") == tmp_path / "a.png.json"
    assert manifest.read(tmp_path / "a.png.json") == {"version": 0, **old}
    assert manifest.beside(tmp_path / "b.png") is None


def test_the_environment_names_what_changes_bits():
    described = environment.describe()
    assert described["threads"] >= 1 and isinstance(described["xla_flags"], str)
    assert described["cpu"]["machine"] and described["packages"]["jaxlib"]
    assert environment.describe() is described  # git is not started again for each image
