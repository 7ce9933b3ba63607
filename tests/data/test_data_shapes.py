import json

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gen_jax.data import dataset, schema
from gen_jax.data.prepare.sources import shape_draw, shape_scene, shape_text, shapes


def _scenes(number, **options):
    rng = np.random.default_rng(3)
    return [shapes.random_scene(rng, **options) for _ in range(number)]


def test_colours_are_far_apart():
    values = {**shapes.COLORS, **shapes.BACKGROUNDS}
    rgb = np.array([list(values.values())], np.float32) / 255
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
    away = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
    assert away.min() > 30  # CIE76; 2.3 is just noticeable


def test_heldout_pairs_never_occur_in_training_scenes():
    assert len(shapes.HELDOUT) == 8
    assert {s for s, _ in shapes.HELDOUT} == set(shapes.SHAPES)
    assert {c for _, c in shapes.HELDOUT} == set(shapes.COLORS)
    for scene in _scenes(600):
        pairs = {(o["shape"], o["color"]) for o in scene["objects"]}
        assert not pairs & set(shapes.HELDOUT)
    for scene in _scenes(200, heldout=True):
        first = scene["objects"][0]
        assert (first["shape"], first["color"]) in shapes.HELDOUT


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
@example(10862618, False)  # a large star near the top
def test_objects_lie_inside_and_apart(seed, heldout):
    scene = shapes.random_scene(np.random.default_rng(seed), heldout=heldout)
    assert json.loads(json.dumps(scene)) == scene
    image = shapes.draw(scene, 64)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (border == shapes.BACKGROUNDS[scene["background"]]).all()
    assert len(shapes.read_scene(image)["objects"]) == len(scene["objects"])


@pytest.mark.parametrize("size", [32, 64, 128])
def test_reading_a_drawing_gives_what_was_drawn(size):
    rng = np.random.default_rng(size)
    for number in range(60):
        scene = shapes.random_scene(rng, heldout=number % 3 == 0)
        reading = shapes.read_scene(shapes.draw(scene, size))
        assert reading["background"] == scene["background"]
        assert len(reading["objects"]) == len(scene["objects"])
        for one in scene["objects"]:
            away = [np.hypot(one["x"] - o["x"], one["y"] - o["y"]) for o in reading["objects"]]
            two = reading["objects"][int(np.argmin(away))]
            assert one["color"] == two["color"] and one["shape"] == two["shape"], scene
            assert min(away) < 0.015
        prompt = shapes.describe(scene, rng)
        assert shapes.score(prompt.facts, reading)["all"], (prompt, reading)


def test_a_wrong_picture_scores_wrong():
    rng = np.random.default_rng(0)
    scene = shapes.random_scene(rng, kind="single", pair=("circle", "red"))
    facts = {"objects": [{"shape": "circle", "color": "red"}]}
    right = shapes.score(facts, shapes.read_scene(shapes.draw(scene, 64)))
    assert right == {"count": True, "shape": True, "color": True, "pair": True, "all": True}
    scene["objects"][0]["color"] = "blue"
    wrong = shapes.score(facts, shapes.read_scene(shapes.draw(scene, 64)))
    assert wrong["shape"] and not wrong["color"] and not wrong["pair"] and not wrong["all"]
    noise = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert not shapes.score(facts, shapes.read_scene(noise))["all"]
    blank = np.full((64, 64, 3), 248, np.uint8)
    assert shapes.read_scene(blank) == {"background": "white", "objects": []}
    swapped = {**facts, "objects": facts["objects"] * 2}
    assert not shapes.score(swapped, shapes.read_scene(shapes.draw(scene, 64)))["count"]


def test_relations_are_read_from_either_end():
    rng = np.random.default_rng(1)
    for _ in range(30):
        scene = shapes.random_scene(rng, kind="relation")
        reading = shapes.read_scene(shapes.draw(scene, 64))
        prompt = shapes.describe(scene, rng)
        if "relation" not in prompt.facts:
            continue
        assert shapes.score(prompt.facts, reading)["relation"], prompt
        opposite = shape_text._OPPOSITE[prompt.facts["relation"]]
        assert not shapes.score({**prompt.facts, "relation": opposite}, reading)["relation"]


def test_edges_are_smooth():
    scene = shapes.random_scene(np.random.default_rng(0), kind="single", pair=("circle", "red"))
    small, large = shapes.draw(scene, 32), shapes.draw(scene, 256)
    averaged = cv2.resize(large, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - averaged).max() < 24
    assert len(np.unique(small.reshape(-1, 3), axis=0)) > 8


def test_all_shapes_of_one_radius_are_about_equally_large():
    areas = {}
    for shape in shapes.SHAPES:
        canvas = np.zeros((200, 200), np.uint8)
        shape_draw.fill(canvas, {"shape": shape, "x": 0.5, "y": 0.5, "r": 0.4, "angle": 0}, 1)
        rows, columns = np.nonzero(canvas)
        areas[shape] = max(np.ptp(rows), np.ptp(columns))
    assert max(areas.values()) < 1.45 * min(areas.values())


def test_captions_are_varied_and_name_the_subject():
    rng = np.random.default_rng(0)
    scene = shapes.random_scene(rng, kind="single", pair=("square", "orange"))
    found = shapes.captions(scene, rng, 12)
    assert len(set(found)) == 12
    assert all("orange square" in text for text in found)
    assert all("a orange" not in text for text in found)
    group = shapes.random_scene(rng, kind="group", pair=("cross", "red"))
    for text in shapes.captions(group, rng, 8):
        assert "red crosses" in text or "red plus signs" in text


def test_prompts_cover_pairs_and_state_their_facts():
    found = shapes.prompts(len(shape_scene.TRAIN_PAIRS), seed=1)
    pairs = {(p.facts["objects"][0]["shape"], p.facts["objects"][0]["color"]) for p in found}
    assert len(pairs) > 45
    assert shapes.prompts(20, seed=1) == shapes.prompts(20, seed=1)
    held = shapes.prompts(24, heldout=True, kinds=("single",))
    assert {(p.facts["objects"][0]["shape"], p.facts["objects"][0]["color"]) for p in held} == set(
        shapes.HELDOUT
    )
    for prompt in found:
        if "background" in prompt.facts:
            assert prompt.facts["background"] in prompt.text
        assert ("background" in prompt.text) == ("background" in prompt.facts)


def test_prepared_records_hold_all_attributes(shapes_dir):
    info, records = dataset.open_split(shapes_dir, "heldout")
    assert list(info.splits) == ["train", "val", "test", "heldout"]
    assert sum(info.num_records(split) for split in info.splits) == 150
    record = schema.unpack(records[0])
    first = record.attributes["objects"][0]
    assert (first["shape"], first["color"]) in shapes.HELDOUT
    assert record.label_name == f"{first['color']} {first['shape']}"
    assert info.label_names[record.label] == record.label_name
    assert len(record.captions) == 5
    from gen_jax.data import images

    drawn = shapes.draw(record.attributes, 16)
    np.testing.assert_array_equal(images.decode_fast(record.image), drawn)
