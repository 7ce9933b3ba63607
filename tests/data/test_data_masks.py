"""Label maps beside images: declared, checked, cropped and read back with them."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data import dataset, images, schema
from gen_jax.data.load import steps
from gen_jax.data.prepare.sources import mask_names, open_source


@pytest.fixture
def folder(tmp_path):
    """Two images with masks, one without; the first mask has palette indices."""
    root = tmp_path / "field"
    (root / "labels").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(root / name)
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 30:] = 2
    indexed = Image.fromarray(mask).convert("P")
    indexed.putpalette([10, 20, 30] * 256)
    indexed.save(root / "labels" / "a.png")
    Image.fromarray(mask).save(root / "labels" / "b.png")
    return root


def declare(folder, *lines):
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))


def records(out):
    info = dataset.load(out)
    found = {}
    for split in info.splits:
        _, rows = dataset.open_split(out, split, verify="digest")
        found |= {r.key: r for r in (schema.unpack(rows[i]) for i in range(len(rows)))}
    return found


def test_masks_of_captions_file_are_no_images(folder, make_dataset):
    declare(
        folder,
        {"file": "a.png", "mask": "labels/a.png"},
        {"file": "b.png", "mask": "labels\\b.png", "caption": "a field", "split": "val"},
    )
    found = records(make_dataset(folder, size=20))
    assert set(found) == {"a.png", "b.png", "c.png"}
    assert found["c.png"].mask == b"" and b"mask" not in schema.pack(found["c.png"])
    assert found["a.png"].captions == () and found["b.png"].captions == ("a field",)
    example = steps.decode(schema.pack(found["a.png"]))
    assert example["image"].shape == (20, 30, 3) and example["mask"].dtype == np.uint8
    want = np.where(np.arange(30) < 15, 0, 2)
    np.testing.assert_array_equal(example["mask"], np.broadcast_to(want, (20, 30)))


def test_masks_by_pattern_and_in_an_archive(folder, make_dataset, tmp_path):
    found = records(make_dataset(folder, masks="labels/{stem}.png"))
    assert {key for key, record in found.items() if record.mask} == {"a.png", "b.png"}
    with zipfile.ZipFile(tmp_path / "field.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder).as_posix())
    zipped = records(make_dataset(tmp_path / "field.zip", masks="labels/{stem}.png"))
    assert {k: r.mask for k, r in zipped.items()} == {k: r.mask for k, r in found.items()}


def test_crops_take_their_part_of_the_mask(tmp_path, make_dataset):
    root = tmp_path / "gray"
    root.mkdir()
    blocks = np.random.default_rng(1).choice(np.uint8([0, 255]), (10, 12))
    values = np.kron(blocks, np.ones((16, 16), np.uint8))
    Image.fromarray(np.stack([values] * 3, -1)).save(root / "x.png")
    Image.fromarray(values).save(root / "x_mask.png")
    pattern = "{folder}/{stem}_mask.png"
    out = make_dataset(root, masks=pattern, crops=6, size=64, format="png")
    crops = records(out).values()
    assert len({tuple(record.attributes["crop"]) for record in crops}) == 6
    for record in crops:
        example = steps.decode(schema.pack(record))
        same = (example["image"][..., 0] > 127) == (example["mask"] > 127)
        assert same.mean() > 0.9, "the image is interpolated, its mask is not"


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda f: (f / "labels/a.png").unlink(), "labels/a.png: no such file"),
        (
            lambda f: Image.new("L", (60, 41)).save(f / "labels/a.png"),
            "is 60x41, and its image is 60x40 (upright)",
        ),
        (
            lambda f: Image.new("RGB", (60, 40)).save(f / "labels/a.png"),
            "labels/a.png: mode RGB: expected one channel of at most 8 bits (gray or palette)",
        ),
        (
            lambda f: Image.new("L", (60, 40)).save(f / "labels/a.png", format="JPEG"),
            "labels/a.png: JPEG changes the values of classes; save it as PNG",
        ),
        (lambda f: (f / "labels/a.png").write_text("x"), "labels/a.png: cannot be decoded"),
    ],
)
def test_an_unusable_mask_rejects_its_image(folder, make_dataset, change, detail):
    change(folder)
    declare(folder, {"file": "a.png", "mask": "labels/a.png"}, {"file": "b.png", "caption": "b"})
    quality = dataset.load(make_dataset(folder)).quality
    (rejected,) = quality["files"]["unusable mask"]
    assert rejected["file"] == "a.png"
    assert rejected["detail"].startswith(f"unusable mask: {detail}")


def test_mistakes_of_declarations_are_one_line(folder):
    for lines, message in (
        ({"file": "a.png", "mask": "../x.png"}, '"mask" must name a file inside this folder'),
        ({"file": "a.png", "mask": 3}, '"mask" must name a file inside this folder, got 3'),
    ):
        declare(folder, lines)
        with pytest.raises(UserError, match=message):
            open_source(folder)
    (folder / "captions.jsonl").unlink()
    for pattern, message in (
        ("labels/x.png", r"masks=labels/x.png: expected a name with \{stem\}"),
        ("{stem}_no.png", "no file of the source has such a name"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(folder, masks=pattern)
    with pytest.raises(UserError, match="goes with a folder or archive of images, not photos"):
        open_source("photos", masks="{stem}.png")
    with pytest.raises(UserError, match="b: is the mask of a, and has a mask of its own"):
        mask_names.named({"a": 0, "b": 1, "c": 2}, "", {"a": "b", "b": "c"})


def test_nearest_classes_survive_resizing():
    mask = np.random.default_rng(0).choice(np.uint8([0, 7, 255]), (13, 17))
    for size in ((13, 17), (26, 34), (5, 3)):
        small = images.resize_mask(mask, *size)
        assert small.shape == size and set(np.unique(small)) <= {0, 7, 255}
    np.testing.assert_array_equal(images.resize_mask(mask, 39, 51)[1::3, 1::3], mask)
    # The class at the center of a pixel that covers 3 x 3 is the middle one.
    third = images.resize_mask(mask[:12, :15], 4, 5)
    np.testing.assert_array_equal(third, mask[1:12:3, 1:15:3])
    np.testing.assert_array_equal(images.decode_mask(images.encode_mask(mask)), mask)
