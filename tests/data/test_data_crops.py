"""Crops of pictures: no detail of a held-out picture in training, and growth that moves nothing."""

import cv2
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data.load import loader
from gen_jax.data.prepare import build, plan

SIZE, COUNT = 24, 5


def picture(seed, height=64, width=96):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return cv2.resize(low, (width, height), interpolation=cv2.INTER_NEAREST)


def folder(path, seeds):
    path.mkdir(exist_ok=True)
    for seed in seeds:
        cv2.imwrite(str(path / f"{seed:03d}.png"), picture(seed))
    return path


def prepare(source, out, **more):
    rules = plan.Rules(val_fraction=0.3, test_fraction=0.2, near_duplicates=False)
    options = {"size": SIZE, "crops": COUNT, "rules": rules, "workers": 1, **more}
    return build.prepare(build.Options(source=str(source), out=str(out), **options))


def keys(out):
    """Split -> key -> digest of the stored bytes."""
    info, found = build.dataset.load(out), {}
    for split in info.splits:
        with loader.make_loader(out, split, batch_size=1, seed=0) as reader:
            records = reader.records(range(reader.num_records))
        found[split] = {r.key: (r.image, r.attributes["crop"]) for r in records}
    return found


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    base = tmp_path_factory.mktemp("crops")
    source = folder(base / "pictures", range(20))
    prepare(source, base / "before")
    folder(source, range(20, 32))
    prepare(source, base / "after")
    return keys(base / "before"), keys(base / "after")


def test_all_crops_of_a_picture_go_to_one_split(grown):
    for found in grown:
        assert set(found) == {"train", "val", "test"}
        pictures = {s: {k.split("#")[0] for k in rows} for s, rows in found.items()}
        assert not pictures["train"] & pictures["val"]
        assert not (pictures["train"] | pictures["val"]) & pictures["test"]


def test_pictures_added_later_move_and_change_nothing(grown):
    before, after = grown
    for split, rows in before.items():
        for key, stored in rows.items():
            assert after[split][key] == stored
    assert sum(map(len, after.values())) == 32 * COUNT > sum(map(len, before.values()))


def test_crops_are_squares_of_all_sizes_inside(grown):
    sides = []
    for rows in grown[1].values():
        for image, (x0, y0, side) in rows.values():
            assert 0 <= x0 <= 96 - side and 0 <= y0 <= 64 - side and SIZE <= side <= 64
            decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
            assert decoded.shape == (SIZE, SIZE, 3)
            sides.append(side)
    assert min(sides) < 30 and max(sides) > 56


def test_a_crop_is_cut_where_it_says(tmp_path):
    source = folder(tmp_path / "p", [3])
    prepare(source, tmp_path / "out", format="png", crops=3, size=24)
    for rows in keys(tmp_path / "out").values():
        for image, (x0, y0, side) in rows.values():
            want = picture(3)[y0 : y0 + side, x0 : x0 + side].astype(float).mean((0, 1))
            decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_allclose(decoded.mean((0, 1)), want, atol=6.0)


def test_a_damaged_picture_is_one_damaged_file(tmp_path):
    source = folder(tmp_path / "p", range(4))
    (source / "bad.png").write_bytes(b"no picture")
    info = prepare(source, tmp_path / "out")
    assert info.quality["rejected"]["corrupt"] == 1
    with pytest.raises(UserError, match="max_bad=0"):
        prepare(source, tmp_path / "none", rules=plan.Rules(max_bad=0, near_duplicates=False))


@pytest.mark.parametrize("more,words", [
    (dict(size=0), "as size"), (dict(source="photos"), "use num"), (dict(crops=-1), "crops=-1"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path, more, words):
    source = more.pop("source", None) or folder(tmp_path / "p", range(2))
    with pytest.raises(UserError, match=words):
        prepare(source, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_without_crops_the_arguments_are_what_they_were(tmp_path):
    """Data sets that are older than crops are recognised as finished."""
    source = folder(tmp_path / "p", range(12))
    prepare(source, tmp_path / "out", crops=0)
    assert "crops" not in build.dataset.load(tmp_path / "out").arguments
