import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_jax.common.errors import UserError
from gen_jax.data import images
from gen_jax.data.load import augmentation, steps, transforms
from gen_jax.data.prepare.sources import photos
from gen_jax.data.text import tokenizer


def _example(height=40, width=60, captions=("a cat", "a pet"), **attributes):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return {
        "image": pixels,
        "captions": captions,
        "label": 1,
        "label_name": "cat",
        "attributes": attributes,
        "key": "k",
    }


def _rng(seed=0):
    return np.random.default_rng(seed)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 99))
def test_crops_have_the_asked_size_and_lie_inside(height, width, size, seed):
    example = _example(height, width)
    for step in (steps.random_resized_crop(size, (0.3, 1.0)), steps.center_crop(size)):
        image = step(example, _rng(seed))["image"]
        assert image.shape == (size, size, 3) and image.dtype == np.uint8


def test_center_crop_is_the_middle():
    example = _example(20, 40)
    image = steps.center_crop(20)(example, _rng())["image"]
    np.testing.assert_array_equal(image, example["image"][:, 10:30])


def test_crop_of_the_whole_square_changes_nothing():
    example = _example(32, 32)
    image = steps.random_resized_crop(32, (1.0, 1.0))(example, _rng())["image"]
    np.testing.assert_array_equal(image, example["image"])
    with pytest.raises(UserError, match="crop scale"):
        steps.random_resized_crop(32, (0.5, 1.5))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(2, 40))
def test_letterbox_shows_the_whole_image_on_white(height, width, size):
    pixels = np.full((height, width, 3), 40, np.uint8)
    got = steps.letterbox(size)({**_example(), "image": pixels}, _rng())
    image, mask = got["image"], got["mask"]
    assert image.shape == (size, size, 3) and mask.shape == (size, size, 1)
    assert (image[mask[..., 0]] == 40).all() and (image[~mask[..., 0]] == 255).all()
    rows, columns = mask.any((1, 2)).sum(), mask.any((0, 2)).sum()
    assert max(rows, columns) == size
    long, short = max(height, width), min(height, width)
    assert abs(min(rows, columns) - max(1.0, size * short / long)) <= 0.5
    assert abs(np.flatnonzero(mask.any((1, 2))).mean() - (size - 1) / 2) <= 0.5  # centered


def test_letterbox_of_its_own_size_changes_nothing():
    example = _example(24, 32)
    got = steps.letterbox(32)(example, _rng())
    np.testing.assert_array_equal(got["image"][4:28], example["image"])


def test_shrinking_is_antialiased():
    # A fine chequerboard must become gray, not a coarser pattern.
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    board = np.repeat(board[..., None], 3, axis=-1)
    for size in (32, 60, 100):
        small = images.resize(board, size).astype(int)
        assert abs(small.mean() - 127.5) < 2 and small.std() < 26
        again = images.resize_short_side(board, size).astype(int)
        assert again.std() < 26


def test_flip_mirrors_unless_it_would_make_a_lie():
    flip = augmentation.horizontal_flip(1.0)
    example = _example()
    np.testing.assert_array_equal(flip(example, _rng())["image"], example["image"][:, ::-1])
    for held in (
        _example(captions=("a cat", "a cat on the LEFT of a dog")),
        _example(captions=("top right corner",)),
        _example(no_flip=True),
    ):
        np.testing.assert_array_equal(flip(held, _rng())["image"], held["image"])
    assert not augmentation.names_a_side(["leftover copyright brightness"])
    never = augmentation.horizontal_flip(0.0)
    np.testing.assert_array_equal(never(example, _rng())["image"], example["image"])


def test_captions_random_in_training_and_first_in_evaluation():
    example = _example(captions=("one", "two", "three"))
    drawn = {steps.pick_caption()(example, _rng(s))["caption"] for s in range(50)}
    assert drawn == {"one", "two", "three"}
    assert steps.pick_caption(train=False)(example, _rng(7))["caption"] == "one"
    assert steps.pick_caption()(_example(captions=()), _rng())["caption"] == ""


def test_steps_leave_their_input_alone():
    tok = tokenizer.train_tokenizer(["a cat"], 300)
    example = _example()
    before, keys = example["image"].copy(), set(example)
    example["image"].setflags(write=False)
    step = transforms.Crops().build(16, train=True, tokenizer=tok, max_length=9)
    one, two = step(example, _rng(5)), step(example, _rng(5))
    assert set(one) == {"image", "label", "tokens", "token_mask"}
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])
    np.testing.assert_array_equal(example["image"], before)
    assert set(example) == keys


def test_real_photograph_through_the_whole_chain():
    example = {**_example(), "image": photos.load("chelsea.png")}
    image = transforms.Crops().build(64, train=False)(example, _rng())["image"]
    # The middle of the cat at 64 pixels keeps its mean color.
    whole = photos.load("chelsea.png")[:, 75:375].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(image.reshape(-1, 3).mean(0), whole, atol=1.0)


def test_features_are_mirrored_with_their_image():
    example = _example(captions=("a face",))
    example |= {"grid": np.arange(12).reshape(2, 2, 3), "whole": np.arange(3)}
    step = augmentation.mirrored_features(("grid", "whole"), probability=1.0)
    found = step(example, _rng())
    np.testing.assert_array_equal(found["image"], example["image"][:, ::-1])
    np.testing.assert_array_equal(found["grid"], example["grid"][:, ::-1])
    np.testing.assert_array_equal(found["whole"], example["whole"])
    held = {**example, "captions": ("an eye on the left",)}
    np.testing.assert_array_equal(step(held, _rng())["grid"], example["grid"])


def test_all_symmetries_come_and_words_of_sides_hold_a_picture():
    step = augmentation.symmetric()
    example = _example(24, 24, captions=("a cat",))
    seen = {step(example, _rng(i))["image"].tobytes() for i in range(80)}
    assert len(seen) == 8
    for held in (
        _example(24, 24, captions=("on the left",)),
        _example(24, 24, no_flip=True),
    ):
        for i in range(8):
            assert step(held, _rng(i))["image"] is held["image"]


def test_tints_are_of_the_strength_that_is_given():
    example = _example(24, 24)
    same = augmentation.jitter_color(0.0)(example, _rng())["image"]
    assert np.abs(same.astype(int) - example["image"]).max() <= 1
    means = [augmentation.jitter_color(0.2)(example, _rng(i))["image"].mean() for i in range(200)]
    base = example["image"].mean()
    assert 0.78 * base < min(means) < 0.87 * base and 1.12 * base < max(means) < 1.22 * base
    assert example["image"].dtype == np.uint8
