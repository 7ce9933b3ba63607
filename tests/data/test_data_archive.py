"""Zip archives as sources: the same as their folder, with splits that captions.jsonl names."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data import dataset, schema
from gen_jax.data.prepare import build
from gen_jax.data.prepare.sources import open_source
from gen_jax.data.text import captions


@pytest.fixture
def folder(tmp_path):
    """Twelve images with captions that put four of them into the split val."""
    root = tmp_path / "images"
    (root / "plates").mkdir(parents=True)
    lines = []
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "plates" / f"{i}.png")
        split = "val" if i % 3 == 0 else "train"
        lines.append({"file": f"plates/{i}.png", "caption": f"plate {i}", "split": split})
    (root / captions.FILE).write_text("\n".join(map(json.dumps, lines)))
    return root


def zipped(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(folder.rglob("*")):
            if member.is_file():
                file.write(member, prefix + member.relative_to(folder).as_posix())
    return path


def prepared(source, out):
    info = build.prepare(build.Options(source=str(source), out=str(out), workers=1))
    return {
        split: [(r.key, r.sha256, r.captions, r.label_name) for r in records(out, info, split)]
        for split in info.splits
    }


def records(out, info, split):
    return [schema.unpack(payload) for payload in dataset.records_of(out, info, split)]


@pytest.mark.parametrize("prefix", ["", "inner/"])
def test_an_archive_is_its_folder(folder, tmp_path, prefix):
    archive = zipped(folder, tmp_path / "a.zip", prefix)
    spec = f"{archive}:{prefix}" if prefix else archive
    whole = prepared(folder, tmp_path / "of_folder")
    assert prepared(spec, tmp_path / "of_archive") == whole
    assert {k: len(v) for k, v in whole.items()} == {"train": 8, "val": 4}
    assert {key for key, *_ in whole["val"]} == {f"plates/{i}.png" for i in (0, 3, 6, 9)}
    source = pickle.loads(pickle.dumps(open_source(spec)))  # as worker processes get it
    assert source.read(0).data == (folder / source.name_of(0)).read_bytes()


def test_changed_members_of_one_size_are_another_data_set(folder, tmp_path):
    archive = zipped(folder, tmp_path / "a.zip")
    before = open_source(archive).identity()
    (folder / "plates" / "0.png").write_bytes(
        (folder / "plates" / "0.png").read_bytes()[:-1] + b"x"
    )
    after = open_source(zipped(folder, tmp_path / "b.zip")).identity()
    assert before["captions"] == after["captions"] and before["files"] != after["files"]


def test_mistakes_are_one_line(folder, tmp_path):
    archive = zipped(folder, tmp_path / "a.zip")
    text = (folder / captions.FILE).read_text().replace('"split": "val"', '"split": "dev"', 1)
    (folder / captions.FILE).write_text(text)
    wrong = zipped(folder, tmp_path / "wrong.zip")
    (tmp_path / "none.zip").write_bytes(b"not a zip")
    for spec, words in (
        (f"{archive}:nowhere", r"a\.zip: nothing below 'nowhere'; it has plates"),
        (wrong, r"wrong\.zip:captions\.jsonl line 1: split='dev': expected train, val, test"),
        (tmp_path / "none.zip", "cannot be read as a zip"),
        (tmp_path / "absent.zip", "no such file"),
    ):
        with pytest.raises(UserError, match=words) as error:
            open_source(spec)
        assert "\n" not in str(error.value)


def test_a_damaged_member_is_rejected_by_name(folder, tmp_path):
    archive = zipped(folder, tmp_path / "a.zip")
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        info = file.getinfo("plates/5.png")
    data[info.header_offset + 200] ^= 0xFF
    archive.write_bytes(data)
    info = build.prepare(build.Options(source=str(archive), out=str(tmp_path / "o"), workers=1))
    assert info.quality["rejected"] == {"corrupt": 1}
    assert info.quality["files"]["corrupt"][0]["file"] == "plates/5.png"
