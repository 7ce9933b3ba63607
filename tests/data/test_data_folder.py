import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data import dataset, images, schema
from gen_jax.data.prepare import build, plan
from gen_jax.data.prepare.sources import check_unambiguous, open_source, photos
from gen_jax.data.text import captions

NAMES = ["astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "rocket.jpg"]


@pytest.fixture
def folder(tmp_path):
    """Real photographs in two classes, with captions, and every kind of trouble."""
    root = tmp_path / "pictures"
    for sub, names in (("animals", NAMES[2:3]), ("things/gray", NAMES[1:2] + NAMES[4:5])):
        (root / sub).mkdir(parents=True)
        for name in names:
            shutil.copy(photos.folder() / name, root / sub / name)
    for name in (NAMES[0], NAMES[3], NAMES[5]):
        shutil.copy(photos.folder() / name, root / name)
    coffee = Image.open(photos.folder() / "coffee.png")
    coffee.save(root / "copy.webp", lossless=True)  # the same pixels in another format
    coffee.resize((450, 300)).convert("RGB").save(root / "near.jpg", quality=80)
    (root / "cut.png").write_bytes((photos.folder() / "brick.png").read_bytes()[:5000])
    (root / "junk.jpg").write_text("not a picture")
    Image.new("RGB", (8, 8), "red").save(root / "tiny.png")
    Image.new("RGB", (64, 64), "red").save(root / "flat.png")
    (root / ".hidden.png").write_text("left out")
    (root / "notes.txt").write_text("left out")
    lines = [
        {"file": "animals/chelsea.png", "captions": ["a cat", "eine Katze"], "artist": "S"},
        {"file": "rocket.jpg", "caption": "a rocket"},
        {"file": "gone.jpg", "caption": "no such file"},
    ]
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def _records(out):
    info = dataset.load(out)
    found = {}
    for split in info.splits:
        _, records = dataset.open_split(out, split, verify="digest")
        for i in range(len(records)):
            record = schema.unpack(records[i])
            found[record.key] = (split, record)
    return found


def test_a_folder_of_real_photographs(folder, make_dataset):
    out = make_dataset(folder)
    found = _records(out)
    # near.jpg and copy.webp repeat coffee.png, of which the first by name is kept.
    assert set(found) == {
        "animals/chelsea.png",
        "astronaut.png",
        "coffee.png",
        "rocket.jpg",
        "things/gray/camera.png",
        "things/gray/coins.png",
    }
    cat = found["animals/chelsea.png"][1]
    assert cat.captions == ("a cat", "eine Katze")
    assert cat.attributes == {"artist": "S"}
    assert (cat.label_name, cat.label) == ("animals", 0)
    assert found["things/gray/coins.png"][1].label_name == "things/gray"
    rocket = found["rocket.jpg"][1]
    assert (rocket.label, rocket.label_name, rocket.captions) == (-1, "", ("a rocket",))
    # Nothing was to be changed, so these are the very files.
    assert rocket.image == (photos.folder() / "rocket.jpg").read_bytes()
    assert (rocket.height, rocket.width) == images.decode_fast(rocket.image).shape[:2]
    quality = dataset.load(out).quality
    assert quality["examined"] == 12 and quality["accepted"] == 6
    assert quality["rejected"] == {
        "blank": 1,
        "corrupt": 1,
        "exact duplicate": 1,
        "hidden": 1,
        "missing": 1,
        "near duplicate": 1,
        "too small": 1,
        "truncated": 1,
    }
    assert quality["files"]["exact duplicate"] == [{"file": "copy.webp", "detail": "of coffee.png"}]
    assert quality["files"]["truncated"][0]["file"] == "cut.png"
    assert quality["files"]["missing"][0]["file"] == "gone.jpg (line 3 of captions.jsonl)"
    line = plan.rejected_summary(quality)
    assert line.startswith("1 blank, 1 corrupt (junk.jpg: not an image, or of an unknown format), ")
    assert "1 hidden (.hidden.png), 1 missing (gone.jpg (line 3 of captions.jsonl): no " in line
    assert "1 truncated (cut.png: " in line and "(cut.png: truncated" not in line
    sheet = Image.open(out / "contact_sheet.png")
    assert sheet.width > 500


def test_size_and_format(folder, make_dataset):
    found = _records(make_dataset(folder, size=64, format="webp", quality=80))
    for _, record in found.values():
        assert min(record.height, record.width) == 64
        assert record.image[8:12] == b"WEBP"
        assert images.decode_fast(record.image).shape[:2] == (record.height, record.width)
    assert found["rocket.jpg"][1].width == 96


def test_too_many_damaged_files_stop(folder, tmp_path):
    options = build.Options(
        str(folder), str(tmp_path / "o"), rules=plan.Rules(max_bad=1), workers=1
    )
    with pytest.raises(UserError, match=r"more than max_bad=1 .*gone.jpg.*\(missing\).*cut.png"):
        build.prepare(options)
    assert not (tmp_path / "o" / dataset.FILE).exists()


def test_a_folder_without_images_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no image in this folder"):
        open_source(tmp_path)
    with pytest.raises(UserError, match="no such folder; expected a folder of images, FILE"):
        open_source(tmp_path / "none")
    with pytest.raises(UserError, match="num=5: only pictograms, photos and shapes"):
        open_source(tmp_path, num=5)
    (tmp_path / "a.png").write_text("junk")
    with pytest.raises(UserError, match=r"no usable image in the source \(1 corrupt \(a.png: not"):
        build.prepare(build.Options(str(tmp_path), str(tmp_path / "o"), workers=1))


def noise(*paths):
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, "PNG")


def test_captions_find_names_of_another_normal_form_and_encoding(tmp_path, make_dataset):
    latin = os.fsdecode(b"caf\xe9")
    noise(tmp_path / "e\u0301.png", tmp_path / latin / "1.png")
    lines = [
        {"file": "é.png", "caption": "one"},
        {"file": "e\u0301.png", "caption": "two"},
        {"file": "caf%E9/1.png", "caption": "three"},
    ]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = make_dataset(tmp_path)
    found = _records(out)
    assert found["e\u0301.png"][1].captions == ("one", "two")
    assert found["caf%E9/1.png"][1].captions == ("three",)
    assert found["caf%E9/1.png"][1].label_name == "caf%E9"
    assert "missing" not in dataset.load(out).quality["rejected"]


def test_a_caption_of_two_names_that_differ_by_form_means_the_exact_one():
    entry = captions.Captioned(("a",), {}, 1)
    both = ["é.png", "e\u0301.png"]
    assert captions.match({"é.png": entry}, both) == ({"é.png": entry}, {})
    assert captions.match({"é.png": entry}, both[1:]) == ({"e\u0301.png": entry}, {})
    assert captions.match({"É.png": entry}, both) == ({}, {"É.png": entry})


def test_outputs_inside_the_source_do_not_come_back(tmp_path):
    noise(tmp_path / "a.png", tmp_path / "b.png")
    for name in ("first", "second", "first"):
        info = build.prepare(build.Options(str(tmp_path), str(tmp_path / name), workers=1))
        assert info.quality["examined"] == 2
    noise(tmp_path / "third" / "c.png")
    info = build.prepare(build.Options(str(tmp_path), str(tmp_path / "third"), workers=1))
    assert info.quality["examined"] == 2
    # Whether the folder was there before must not show: an interrupted run makes it.
    assert list(info.quality["rejected"]) == ["made by gen_jax"]
    with pytest.raises(UserError, match="is the folder of images itself; name another one"):
        build.prepare(build.Options(str(tmp_path), f"{tmp_path}/", workers=1))


def test_a_folder_called_like_an_embedded_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_unambiguous("photos", "")
    noise(tmp_path / "photos" / "a.png")
    with pytest.raises(UserError, match=r"write \./photos for the folder, or embedded:photos"):
        check_unambiguous("photos", "out")
    check_unambiguous("photos", "./photos")  # what an interrupted run of this command made
    check_unambiguous("./photos", "out")
    assert open_source("./photos").name == "folder"
    assert open_source("embedded:photos").name == "photos"


def test_added_images_leave_earlier_ones_in_their_splits(tmp_path, make_dataset):
    rng = np.random.default_rng(0)
    root = tmp_path / "noise"
    root.mkdir()

    def add(prefix, number):
        for i in range(number):
            pixels = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{prefix}{i:02d}.png")

    rules = {"val_fraction": 0.3, "test_fraction": 0.3}
    add("m", 30)
    before = _records(make_dataset(root, rules=rules))
    add("a", 30)  # sorted before the old ones
    after = _records(make_dataset(root, rules=rules))
    assert len(before) == 30 and len(after) == 60
    assert {split for split, _ in before.values()} == {"train", "val", "test"}
    assert all(after[key][0] == split for key, (split, _) in before.items())


@given(st.text("0123456789abcdef", min_size=64, max_size=64), st.floats(0, 0.5), st.floats(0, 0.4))
def test_changing_one_fraction_leaves_the_other_split_alone(sha256, fraction, other):
    val = plan.split_of(sha256, fraction, 0.0) == "val"
    test = plan.split_of(sha256, 0.0, other) == "test"
    both = plan.split_of(sha256, fraction, other)
    assert both == ("test" if test else "val" if val else "train")


def test_split_shares_are_as_asked():
    import hashlib

    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(20_000)]
    found = [plan.split_of(d, 0.1, 0.2) for d in digests]
    assert abs(found.count("val") - 2000) < 150 and abs(found.count("test") - 4000) < 200


def test_gray_restoration_images_from_a_real_archive(shared, tmp_path, make_dataset):
    root = tmp_path / "set12"
    with zipfile.ZipFile(shared / "restore_gray.zip") as archive:
        names = [n for n in archive.namelist() if "Set12/" in n and n.endswith(".png")]
        archive.extractall(root, names)
    out = make_dataset(root, size=64, rules={"val_fraction": 0.0, "test_fraction": 0.0})
    info = dataset.load(out)
    assert info.num_records("train") == 12
    mean = info.statistics["train"]["channel_mean"]
    assert mean[0] == pytest.approx(mean[2], abs=0.01)


def test_captioned_images_from_a_real_archive(shared, tmp_path, make_dataset):
    root = tmp_path / "stamps"
    with zipfile.ZipFile(shared / "captioned_cutouts.zip") as archive:
        member = next(n for n in archive.namelist() if n.endswith("captions.jsonl"))
        base = member.removesuffix("captions.jsonl")
        lines = archive.read(member).decode().splitlines()[:40]
        archive.extractall(root, [base + json.loads(line)["file"] for line in lines])
    top = root / base
    (top / "captions.jsonl").write_text("\n".join(lines))
    found = _records(make_dataset(top, rules={"near_duplicates": False}))
    assert len(found) >= 35
    assert all(record.captions for _, record in found.values())
