"""Transforms by name: what each gives, what it declares, and what a config may not say."""

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data import schema
from gen_jax.data.load import transforms
from gen_jax.data.text import instructions
from gen_jax.data.text.tokenizer import train_tokenizer
from gen_jax.runs.data import DataConfig

SIZE, LENGTH = 16, 24
KEYS = {
    "crops": set(),
    "art_captions": set(),
    "letterbox": {"mask"},
    "features": {"grid"},
    "face_captions": {"grid"},
    "restoration": {"degraded", "degradation"},
    "instructed_restoration": {"degraded", "degradation", "kind"},
    "labeled_crops": {"mask"},
    "plates": {"text", "height"},
    "changed_pairs": {"before", "after", "mask"},
    "landmarks": {"points"},
}
TEXT_KEYS = {
    "face_captions": {"facts", "asked"},
    **dict.fromkeys(("restoration", "labeled_crops", "plates", "landmarks", "changed_pairs")),
}


def example(captions=("a cat",), **attributes):
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 255, (32, 40, 3), dtype=np.uint8),
        "grid": rng.integers(0, 9, (2, 2, 3)),
        "mask": rng.choice(np.uint8([0, 255]), (32, 40)),
        "captions": captions,
        "label": 1,
        "attributes": {"text": "AB12", "landmarks": [[0.3, 0.4]] * 5, **attributes},
        "key": "a.png",
    }


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a cat"], 300)


@pytest.mark.parametrize("has_tokens", [True, False])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", transforms.TRANSFORMS)
def test_each_gives_the_keys_that_it_declares(name, train, has_tokens, tokenizer):
    named = transforms.TRANSFORMS[name]()
    features = ("grid",) if named.takes_features else ()
    given = tokenizer if has_tokens else None
    run = named.build(SIZE, train=train, tokenizer=given, max_length=LENGTH, features=features)
    one, again = run(example(), rng(3)), run(example(), rng(3))
    text = TEXT_KEYS.get(name, set())
    with_text = {"tokens", "token_mask", *text} if has_tokens and text is not None else set()
    assert set(one) == {"image", "label", *KEYS[name], *with_text}
    assert set(one) == set(named.keys(has_tokens, features))
    channels = 1 if name == "letterbox" else 3
    height = SIZE // 4 if name == "plates" else SIZE
    assert one["image"].shape == (height, SIZE, channels) and one["image"].dtype == np.uint8
    for key, value in one.items():
        np.testing.assert_array_equal(value, again[key])


def test_crops_change_images_in_training_only():
    named = transforms.Crops(crop_scale=(1.0, 1.0), symmetries=True, color_jitter=0.3)
    square = example() | {"image": example()["image"][:, :32]}
    train, evaluate = (named.build(32, train=train) for train in (True, False))
    assert len({train(square, rng(i))["image"].tobytes() for i in range(30)}) > 20
    np.testing.assert_array_equal(evaluate(square, rng())["image"], square["image"])
    plain = transforms.Crops(crop_scale=(1.0, 1.0), flip=False).build(32, train=True)
    np.testing.assert_array_equal(plain(square, rng())["image"], square["image"])


def test_features_stay_with_the_whole_image():
    named = transforms.Features(flip=True)
    seen = set()
    for seed in range(8):
        out = named.build(32, train=True, features=("grid",))(example(), rng(seed))
        is_flipped = not np.array_equal(out["grid"], example()["grid"])
        middle = example()["image"][:, 4:36]
        np.testing.assert_array_equal(out["image"], middle[:, ::-1] if is_flipped else middle)
        seen.add(is_flipped)
    assert seen == {True, False}
    with pytest.raises(ValueError, match="crops would crop"):
        transforms.Crops().build(32, train=True, features=("grid",))


def test_texts_that_a_tokenizer_is_trained_on():
    def unread():
        raise AssertionError("captions were read from the records")
        yield

    own = ["my own caption"]
    assert transforms.Crops().vocabulary(own) == transforms.Features().vocabulary(own) == own
    assert {"my own caption"} < set(transforms.ArtCaptions().vocabulary(own))
    assert any("glasses" in text for text in transforms.FaceCaptions().vocabulary(unread()))
    instructed = transforms.InstructedRestoration().vocabulary(unread())
    assert instructed == instructions.vocabulary()


def test_faces_without_attributes_are_noted():
    named = transforms.FaceCaptions()
    plain, known = (
        schema.Record("k", b"", 1, 1, attributes=a) for a in ({}, {"glasses": "without"})
    )
    assert "none of its first 500 records has an attribute" in named.check_records([plain] * 3)
    assert named.check_records(iter([plain, known])) == ""
    assert transforms.Crops().check_records([plain]) == ""


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (dict(name="crop"), ".name='crop': expected one of art_captions, changed_pairs, crops"),
        (dict(flip=True), ".name=None: expected one of"),
        (dict(name="crops", gray=True), ": unknown key 'gray'; Crops takes crop_scale, flip"),
        ("crops", "='crops': expected a dict with the name of a transform and its fields"),
        (dict(name="crops", crop_scale=(0.8, 0.5)), ".crop_scale=(0.8, 0.5): expected two frac"),
        (dict(name="crops", color_jitter=1.0), ".color_jitter=1.0: expected a number from 0 to"),
        (dict(name="restoration", degradation="rain"), ".degradation='rain': expected one of"),
        (dict(name="restoration", curriculum_steps=-1), ".curriculum_steps=-1: expected a whole"),
        (
            dict(name="instructed_restoration", contradiction_prob=2.0),
            ".contradiction_prob=2.0: expected a number from 0 to 1",
        ),
    ],
)
def test_mistakes_are_named(values, line):
    with pytest.raises(UserError) as caught:
        DataConfig.of(dict(dir="data", transform=values))
    assert str(caught.value).startswith(f"config.data.transform{line}")
    assert "\n" not in str(caught.value)
