"""The packaged engravings: small, free of local paths, and different for every seed."""

import numpy as np
import pytest
from PIL import Image

import gen_jax
from gen_jax.common.errors import UserError
from gen_jax.pipelines.sampling import Request
from gen_jax.runs import reader

FOLDER = reader.PACKAGED / "engravings"


@pytest.fixture(scope="module")
def model():
    return gen_jax.load("package:engravings", num_inference_steps=4)


@pytest.fixture(scope="module")
def pipe(model):
    return model.pipeline()


def test_it_is_small_and_names_no_place_of_this_machine():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 20e6
    for name in ("config.json", "manifest.json", "README.md"):
        text = (FOLDER / name).read_text()
        assert '"/' not in text and "/tmp/" not in text, name
    assert "Public domain" in (FOLDER / "README.md").read_text()


def test_seeds_give_engravings_with_captions_and_images_are_described(pipe):
    # Always four at once, and two described: each other number compiles for seconds.
    samples = pipe.sample(Request(range(8)), batch_size=4)
    assert samples.images.shape == (8, 96, 96, 3)
    # Lines on white paper: neither blank nor gray.
    assert (samples.images.std((1, 2, 3)) > 15).all() and samples.images.mean() > 100
    assert len(set(samples.captions)) >= 6 and all(samples.captions)
    again = pipe.sample(Request([9, 8, 3, 10]))
    assert np.abs(again.images[2].astype(int) - samples.images[3]).max() <= 1
    described = pipe.describe(list(samples.images[:2]))
    error = np.square(described.images / 255.0 - samples.images[:2] / 255.0).mean()
    assert -10 * np.log10(error) > 18 and all(described.captions)


def test_from_python_images_come_and_go_as_pil_images(model, pipe):
    images = model.generate(["", "a horse"], num=2, seed=5)
    want = pipe.sample(Request([5, 6, 5, 6], ["", "", "a horse", "a horse"]))
    assert [image.info["seed"] for image in images] == [5, 6, 5, 6]
    assert [image.info["caption"] for image in images] == list(want.captions)
    assert all(np.array_equal(image, pixels) for image, pixels in zip(images, want.images))
    gray = Image.fromarray(want.images[0]).convert("L")
    described = pipe.describe([np.asarray(gray.convert("RGB"))] * 2)
    assert model.describe([gray] * 2) == list(described.captions)
    assert model.settings["num_inference_steps"] == 4
    for call, words in (
        (lambda: model.generate("", negative_prompt="x"), "negative_prompt: .*does not use it"),
        (lambda: model.generate("", sampler="ddim"), "sampler=ddim: .*without this setting"),
        (lambda: model.restore(gray), "a run of the stage 'engravings', which restores nothing"),
    ):
        with pytest.raises(UserError, match=words):
            call()
