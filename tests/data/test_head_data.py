"""What domain heads learn from: composites, plates, and their transforms."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gen_jax.common.errors import UserError
from gen_jax.data import composites
from gen_jax.data.load import change_steps, landmark_steps
from gen_jax.data.load.head_transforms import ChangedPairs, LabeledCrops, Landmarks, Plates
from gen_jax.data.load.mask_steps import IGNORED
from gen_jax.data.prepare.sources import open_source, plate_draw
from gen_jax.data.text import plate_characters

RNG = np.random.default_rng(0)


def example(image, **more):
    return {"image": image, "label": 0, "key": "x.png", "attributes": {}, "captions": (), **more}


def test_a_pasted_cutout_covers_its_opaque_pixels_alone():
    image = np.full((20, 30, 3), 10, np.uint8)
    cutout = np.full((8, 8, 4), 200, np.uint8)
    cutout[..., 3] = 0
    cutout[2:6, 1:7, 3] = 255
    out, covered = composites.paste(image, cutout, -3, 25)
    want = np.zeros((20, 30), bool)
    want[0:3, 26:30] = True
    np.testing.assert_array_equal(covered, want)
    np.testing.assert_array_equal(out, np.where(want[..., None], [200] * 3, 10))
    assert image.max() == 10 and composites.trimmed(cutout).shape == (4, 6, 4)


def test_a_posed_cutout_keeps_color_and_size():
    cutout = np.zeros((40, 20, 4), np.uint8)
    cutout[5:35, 4:16] = 200, 100, 50, 255
    plain = composites.Poses(turn=0.0, light=0.0)
    for side in (15, 60):
        posed = composites.posed(composites.trimmed(cutout), side, plain, RNG)
        assert abs(posed.shape[0] - side) <= 2 and abs(posed.shape[1] - 0.4 * side) <= 2
        inside = posed[posed[..., 3] > 250]
        np.testing.assert_allclose(inside[:, :3], [[200, 100, 50]] * len(inside), atol=1)


def test_held_out_composites_show_other_photographs_and_pictograms():
    source = open_source("composites", num=60, size=24)
    shown = {"train": set(), "val": set(), "test": set()}
    for index in range(len(source)):
        raw, described = source.read(index), source.describe(index)
        names = {raw.attributes["photo"], *(name for name, _ in raw.attributes["pictograms"])}
        shown[described.split] |= names
        assert set(np.unique(raw.mask)) <= {0, 255} and raw.mask.shape == raw.pixels.shape[:2]
    assert not shown["train"] & (shown["val"] | shown["test"]) and not shown["val"] & shown["test"]
    assert all(shown.values())
    again = open_source("composites", num=9, size=24).read(8)
    np.testing.assert_array_equal(again.pixels, source.read(8).pixels)


def test_masks_are_cropped_and_mirrored_with_their_images():
    values = np.random.default_rng(2).integers(0, 2, (60, 80)).astype(np.uint8) * 255
    values = np.kron(values[:15, :20], np.ones((4, 4), np.uint8))
    step = LabeledCrops(color_jitter=0.0, crop_scale=(0.4, 0.9)).build(30, train=True)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        out = step(example(np.stack([values] * 3, -1), mask=values), rng)
        same = (out["image"][..., 0] > 127) == (out["mask"] == 1)
        assert same.mean() > 0.9, "the image is interpolated, its mask is not"
    whole = LabeledCrops().build(60, train=False)
    out = whole(example(np.stack([values] * 3, -1), mask=values), RNG)
    np.testing.assert_array_equal(out["mask"], values[:, 10:70] // 255)


def test_values_of_masks_are_checked():
    image, mask = np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 7, np.uint8)
    with pytest.raises(UserError, match=r"x.png: its mask has the value 7; expected .* 0, 255; ch"):
        LabeledCrops().build(8, train=False)(example(image, mask=mask), RNG)
    with pytest.raises(UserError, match=r"x.png: the record has no mask"):
        LabeledCrops().build(8, train=False)(example(image), RNG)
    ignoring = LabeledCrops(label_values=(3, 4), ignored_values=(7,)).build(8, train=False)
    assert (ignoring(example(image, mask=mask), RNG)["mask"] == IGNORED).all()
    for values in ((0,), (0, 0), (0, 300)):
        with pytest.raises(UserError, match="label_values"):
            LabeledCrops(label_values=values)


def test_degraded_crops_keep_their_mask():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    fields = dict(color_jitter=0.0, flip=False, crop_scale=(1.0, 1.0), degradation_prob=1.0)
    step = LabeledCrops(degradation="denoise25", **fields).build(32, train=True)
    out = step(example(image, mask=mask), RNG)
    assert out["image"].dtype == np.uint8 and np.abs(out["image"] - image.astype(int)).mean() > 5


def test_plates_read_as_their_record_says():
    source = open_source("plates", num=60)
    fonts = {"train": set(), "val": set(), "test": set()}
    for index in range(len(source)):
        raw = source.read(index)
        fonts[source.describe(index).split].add(raw.attributes["font"])
        text = raw.attributes["text"]
        assert plate_characters.decode(plate_characters.encode(text)) == text
        assert not set(text) & set("IOQ")
    assert fonts["test"] == {plate_draw.HELD_OUT_FONT} and not fonts["train"] & fonts["test"]
    one = plate_draw.Plate("fr", "AB-123-CD", "DejaVuSans-Bold", 0, 1.0)
    other = plate_draw.Plate("fr", "AB-124-CD", "DejaVuSans-Bold", 0, 1.0)
    differ = (plate_draw.draw(one, 40) != plate_draw.draw(other, 40)).any((0, 2))
    columns = np.flatnonzero(differ)
    assert plate_draw.draw(one, 40).shape == (40, 184, 3) and np.ptp(columns) < 30


def test_characters_of_plates_are_checked():
    assert plate_characters.normalized("ab-12 c") == "AB12C"
    for text, message in (("", "1 to 10 characters"), ("A" * 11, "1 to 10"), ("ÄB", "has 'Ä'")):
        with pytest.raises(UserError, match=message):
            plate_characters.encode(text, "x.png")


def test_drawn_plates_are_seen_by_a_camera_and_real_ones_are_not():
    image = plate_draw.draw(plate_draw.random_plate(RNG), 40)
    step = Plates().build(64, train=False)
    drawn = example(image, attributes={"text": "AB1", "drawn": True})
    a, b = (step(drawn, np.random.default_rng(seed)) for seed in (0, 0))
    np.testing.assert_array_equal(a["image"], b["image"])
    assert a["image"].shape == (16, 64, 3) and 14 <= a["height"] <= 32
    real = step(example(image, attributes={"text": "AB1"}), np.random.default_rng(0))
    assert real["height"] == 40 and (real["image"] != a["image"]).any()
    with pytest.raises(UserError, match="no attribute text"):
        step(example(image), RNG)
    with pytest.raises(UserError, match="two heights in pixels"):
        Plates(heights=(30.0, 20.0))


def dot_of(image):
    """Center of the bright part of an image, x and y in fractions of its sides."""
    weight = np.maximum(image[..., 0].astype(np.float64) - 20, 0)
    y, x = np.indices(weight.shape) + 0.5
    return [
        (v * weight).sum() / weight.sum() / n for v, n in ((x, image.shape[1]), (y, image.shape[0]))
    ]


def test_landmarks_move_with_their_face():
    image = np.zeros((48, 48, 3), np.uint8)
    image[10:14, 28:32] = 255  # its center is at (30, 12) pixels
    written = [[30 / 48, 12 / 48]] + [[0.5, 0.5]] * 4
    face = example(image, attributes={"landmarks": written})
    fields = dict(turn=40.0, scale=(0.7, 1.2), shift=0.1)
    for train in (False, True):
        step = Landmarks(color_jitter=0.0, mirrored=(), **fields).build(64, train=train)
        for seed in range(5):
            out = step(face, np.random.default_rng(seed))
            np.testing.assert_allclose(out["points"][0], dot_of(out["image"]), atol=0.004)
    flip = landmark_steps.mirror(((0, 1),), probability=1.0)
    flipped = flip({**face, "points": np.float32(written)}, RNG)
    np.testing.assert_allclose(flipped["points"][1], [18 / 48, 12 / 48], atol=1e-6)
    np.testing.assert_allclose(dot_of(flipped["image"]), [18 / 48, 12 / 48], atol=1e-6)


def test_landmarks_of_records_are_checked():
    image = np.zeros((16, 16, 3), np.uint8)
    for written in (None, [[0, 1]] * 4, "x", [[0, float("nan")]] * 5):
        step = Landmarks().build(16, train=True)
        with pytest.raises(UserError, match=r"x.png: expected an attribute landmarks of 5 pairs"):
            step(example(image, attributes={"landmarks": written}), RNG)
    with pytest.raises(UserError, match="pairs of indices below points=4, each index once"):
        Landmarks(points=4)


def test_pairs_differ_where_their_mask_says_and_nowhere_else():
    image = np.random.default_rng(0).integers(60, 200, (40, 50, 3)).astype(np.uint8)
    still = dict(shift=0.0, turn=0.0, season=0.0, noise=0.0)
    step = ChangedPairs(unchanged=0.0, **still).build(32, train=False)
    shares = []
    for seed in range(8):
        out = step(example(image), np.random.default_rng(seed))
        differs = (out["before"] != out["after"]).any(-1)
        mask = out["mask"] == 1
        # Pixels at the edge of a cut-out are half covered; a few inside have the ground's color.
        near = ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=2)
        assert not (differs & ~near).any()
        shares.append((differs & mask).sum() / max(1, mask.sum()))
    assert np.mean(shares) > 0.9
    same = ChangedPairs(unchanged=1.0, **still).build(32, train=True)(example(image), RNG)
    assert not same["mask"].any()
    np.testing.assert_array_equal(same["before"], same["after"])
    seen = ChangedPairs(unchanged=1.0).build(32, train=False)(example(image), RNG)
    assert not seen["mask"].any() and (seen["before"] != seen["after"]).mean() > 0.5


def test_cutouts_of_training_are_not_those_of_evaluation(tmp_path):
    for i in range(30):
        rgba = np.zeros((8, 8, 4), np.uint8)
        rgba[2:6, 2:6] = i, 0, 0, 255
        Image.fromarray(rgba).save(tmp_path / f"{i}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "opaque.png")
    groups = [change_steps.cutouts(str(tmp_path), held_out) for held_out in (False, True)]
    train, held_out = ({int(c[3, 3, 0]) for c in group} for group in groups)
    assert train | held_out == set(range(30)) and not train & held_out and held_out
    with pytest.raises(UserError, match="objects=nowhere: no such folder or archive"):
        change_steps.cutouts("nowhere", False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found no image with transparent parts"):
        change_steps.cutouts(str(tmp_path / "empty"), False)
