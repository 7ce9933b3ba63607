"""A picture that gives the others its style: what of it is read, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.pipelines.code_prior import CodePrior
from gen_jax.pipelines.sampling import Request


def test_the_middle_of_a_picture_is_read(runs, tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 200
    Image.fromarray(picture).save(tmp_path / "wide.png")
    found = CodePrior(runs("debug,style")).style_image(str(tmp_path / "wide.png"))
    assert found.shape == (16, 16, 3)
    np.testing.assert_array_equal(found, 200)


def test_pictures_have_the_style_of_one(runs, tmp_path):
    pipe = CodePrior(runs("debug,style"))
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (16, 16, 3)).astype(np.uint8) for _ in range(2))
    prompts, seeds = ["deep blue"] * 3, [1, 2, 3]
    own, like_a, like_b = (
        pipe(Request(seeds, prompts, style_image=image), 2) for image in (None, a, b)
    )
    assert own.shape == like_a.shape == (3, 16, 16, 3)
    for one, other in ((own, like_a), (like_a, like_b)):
        assert (one != other).any((1, 2, 3)).all()
    np.testing.assert_array_equal(
        like_a[2:], pipe(Request(seeds[2:], prompts[2:], style_image=a), 2)
    )


def test_what_cannot_be_read_is_named(runs, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, "JPEG")
    (tmp_path / "short.jpg").write_bytes(buffer.getvalue()[:-200])
    (tmp_path / "text.png").write_text("no picture")
    pipe = CodePrior(runs("debug,style"))
    for name, words in (
        ("none.png", "No such file"), ("short.jpg", "truncated"), ("text.png", "not an image"),
        ("", "directory"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words) as error:
            pipe.style_image(str(tmp_path / name))
        assert "name" in str(error.value)
    assert "style_image" not in CodePrior.options(runs().task)
