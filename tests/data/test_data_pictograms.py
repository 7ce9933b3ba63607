import collections
import pickle

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data import dataset, images, schema
from gen_jax.data.prepare.sources import (
    open_source,
    pictogram_draw,
    pictogram_read,
    pictogram_scene,
    pictogram_text,
)
from gen_jax.data.prepare.sources.pictogram_scene import BACKGROUNDS, COLORS, HELDOUT, SUBJECTS
from gen_jax.metrics.probe import fit_linear_probe


@pytest.fixture(scope="module")
def records():
    source = open_source("pictograms", num=400)
    return [source.read(index) for index in range(400)]


def test_the_atlas_holds_a_pictogram_of_each_name(monkeypatch):
    for subject in SUBJECTS:
        alpha = pictogram_draw.pictogram(subject, None)[..., 3]
        assert 0.1 < (alpha > 128).mean() < 0.95, subject
    monkeypatch.setattr(pictogram_draw, "COLUMNS", 11)
    with pytest.raises(UserError, match="belongs to another version; install gen_jax again"):
        open_source("pictograms")


def test_every_pictogram_changes_its_color_and_keeps_its_outline():
    for index, subject in enumerate(SUBJECTS):
        own = pictogram_draw.pictogram(subject, None)
        for color in list(COLORS)[index % 3 :: 3]:
            hue = COLORS[color][0]
            painted = pictogram_draw.pictogram(subject, color)
            assert (painted[..., 3] == own[..., 3]).all()
            there = painted[..., 3] > 200
            hues, saturation, value = pictogram_draw.to_hsv(painted[there][:, :3] / 255.0)
            near = np.abs((hues - hue + 180) % 360 - 180) < 8
            # A fourth of the pixels is enough to be seen.
            assert (near & (saturation > 0.2) & (value > 0.3)).mean() > 0.15, (subject, color)


def test_scenes_are_a_function_of_seed_and_index():
    source, longer = open_source("pictograms", num=40), open_source("pictograms", num=60)
    other = pickle.loads(pickle.dumps(source))
    for index in (0, 17, 39):
        one = source.read(index)
        for same in (longer.read(index), other.read(index)):
            assert (one.pixels == same.pixels).all() and one.captions == same.captions
    assert (source.read(0).pixels != open_source("pictograms", num=40, seed=1).read(0).pixels).any()
    assert source.identity() != longer.identity()


def test_held_out_pairs_stay_held_out(make_dataset):
    folder = make_dataset("pictograms", num=400)
    info = dataset.load(folder)
    assert {name: info.num_records(name) for name in info.splits} == {
        "train": 340, "val": 20, "test": 20, "heldout": 20
    }  # fmt: skip
    for split in info.splits:
        _, rows = dataset.open_split(folder, split)
        for i in range(len(rows)):
            record = schema.unpack(rows[i])
            scene = record.attributes
            assert (HELDOUT[scene["subject"]] == scene["color"]) == (split == "heldout")
            assert (images.decode_fast(record.image) == pictogram_draw.draw(scene, 64)).all()
            assert record.label_name == scene["subject"] in record.captions[0]


def test_every_subject_has_a_held_out_color_and_others():
    counts = collections.Counter(HELDOUT.values())
    assert set(HELDOUT) == set(SUBJECTS) and set(counts) == set(COLORS)
    assert max(counts.values()) - min(counts.values()) <= 8


def test_captions_state_facts_and_nothing_else(records):
    rng = np.random.default_rng(0)
    seen = collections.Counter()
    for record in records[:300]:
        text, facts = pictogram_text.describe(record.attributes, rng)
        assert all(record.attributes[name] == value for name, value in facts.items())
        seen.update(list(facts))
        head = text.split(" on ")[0].split(",")[0].split()
        assert [c for c in COLORS if c in head] == [c for c in (facts["color"],) if c], text
        assert [b for b in BACKGROUNDS if b in text] == [
            b for b in (facts.get("background"),) if b
        ], text
        assert facts["subject"] in text
    assert seen["subject"] == seen["color"] == 300 > seen["background"] > 240


def test_the_probe_sees_shapes():
    rng = np.random.default_rng(0)
    labels = np.arange(720) % 24  # the animals
    names = list(SUBJECTS)
    scenes = [pictogram_scene.random_scene(rng, subject=names[label]) for label in labels]
    shapes = pictogram_read.shape_features(np.stack([pictogram_draw.draw(s, 64) for s in scenes]))
    probe = fit_linear_probe(shapes[:576], labels[:576])
    assert np.mean(probe(shapes[576:]).label == labels[576:]) > 0.95


def test_the_readers_read_what_was_drawn(records):
    for record in records:
        reading, scene = pictogram_read.read(record.pixels), record.attributes
        assert reading.background == scene["background"]
        _, left, side = (v / 64 for v in reading.box)
        assert side <= scene["side"] + 0.04 and abs(left + side / 2 - 0.5) < 0.15
    colored = [r for r in records if r.attributes["color"]]
    named = [pictogram_read.read_color(r.pixels, r.label_name) for r in colored]
    assert np.mean([n == r.attributes["color"] for n, r in zip(named, colored)]) > 0.98


def test_an_empty_image_shows_nothing():
    blank = np.full((64, 64, 3), 250, np.uint8)
    reading = pictogram_read.read(blank)
    assert reading.background == "white" and reading.box is None
    assert not pictogram_read.shape_features(blank[None]).any()
    assert pictogram_read.read(np.full((64, 64, 3), 128, np.uint8)).background is None
