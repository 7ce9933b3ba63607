"""Changing images and sampling in other sizes, with networks that are formulas."""

import dataclasses
import itertools

import flax.linen as nn
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data.text.tokenizer import train_tokenizer
from gen_jax.diffusion.schedules import make_process
from gen_jax.pipelines import edits, image_files, python_api, requests
from gen_jax.pipelines.python_api import Model
from gen_jax.pipelines.sampling import Request
from gen_jax.pipelines.text_to_image import TextToImage
from gen_jax.runs import layout
from gen_jax.runs.reader import TrainedModel
from tests.tasks.plain_ldm import FROZEN, PARAMS, Blend, plain


class Cells(nn.Module):
    """Latents that are the mean colors of squares of 4 pixels, and back."""

    def encode(self, x):
        b, h, w, c = x.shape
        mean = x.reshape(b, h // 4, 4, w // 4, 4, c).mean((2, 4))
        mean = jnp.pad(mean, ((0, 0), (0, 0), (0, 0), (0, 1)))
        return mean, jnp.full(mean.shape, -60.0)

    def decode(self, z):
        return z[..., :3].repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train_tokenizer(["red", "green", "blue"], 300).save(folder / layout.TOKENIZER)
    flow = make_process("flow", "flow")
    settings = {"sampler": "euler", "num_inference_steps": 4, "guidance_scale": 1.0}
    return TrainedModel(
        path=folder,
        config=ml_collections.ConfigDict({"task": {"name": "ldm"}}),
        task=plain(
            unet=Blend(block_out_channels=(8, 8)), autoencoder=Cells(), process=flow, **settings
        ),
        variables={"params": {"model": PARAMS}, "extra": {}},
        frozen=FROZEN,
        step=1,
        digest="",
    )


@pytest.fixture(scope="module")
def pipe(model):
    return TextToImage(model)


@pytest.fixture(scope="module")
def loaded(model):
    """The Python interface, which keeps what it compiled."""
    return Model(model)


def squares(height, width, seed=0):
    """An image of squares of 4 pixels, which `Cells` keeps exactly."""
    colors = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return colors.repeat(4, 0).repeat(4, 1)


def test_strength_is_the_share_of_the_steps_that_an_image_takes(pipe):
    image, seeds, texts = squares(16, 16), [3, 4], ["red", "red"]
    at = {
        strength: pipe(Request(seeds, texts, images=[image] * 2, strength=strength))
        for strength in (0, 0.25, 0.5, 1)
    }
    np.testing.assert_array_equal(at[0], np.stack([image] * 2))
    np.testing.assert_array_equal(at[1], pipe(Request(seeds, texts)))
    # By hand: Euler's steps of a flow from the noised latents.
    x_0 = np.pad(image[::4, ::4] / 127.5 - 1.0, ((0, 0), (0, 0), (0, 1)))
    tokens = pipe._tokens(texts)
    words = (tokens["tokens"] * tokens["token_mask"]).sum(1)[:, None, None, None]
    for strength, times in ((0.25, [0.25, 0]), (0.5, [0.5, 0.25, 0])):
        x = (1 - times[0]) * x_0 + times[0] * pipe.noise(seeds)
        for t, end in itertools.pairwise(times):
            x = x + (end - t) * (np.sin(0.1 * words + x) + t)
        want = (127.5 * (x[..., :3] + 1)).clip(0, 255).repeat(4, 1).repeat(4, 2)
        assert np.abs(at[strength] - want).max() <= 0.51


def test_pixels_outside_of_a_mask_are_kept(pipe):
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    mask[5:9, 6:7] = 255  # in the latents of rows 1 and 2, column 1
    request = Request([3], ["red"], images=[image], masks=[mask])
    kept, raw = pipe(request)[0], pipe(dataclasses.replace(request, composite=False))[0]
    white = mask == 255
    np.testing.assert_array_equal(kept[~white], image[~white])
    np.testing.assert_array_equal(kept[white], raw[white])
    assert np.abs(kept[white].astype(int) - image[white]).max() > 20
    # Without the composite: the autoencoder's image, but for whole latents.
    through = pipe(Request([3], ["red"], images=[image], strength=0))[0]
    cells = np.zeros((16, 16), bool)
    cells[4:12, 4:8] = True
    np.testing.assert_array_equal(raw[~cells], through[~cells])
    assert np.abs(raw[cells].astype(int) - through[cells]).mean() > 10


def test_the_result_of_an_image_depends_on_nothing_else(pipe):
    images = [squares(16, 16, seed) for seed in (1, 2)]
    mask = np.zeros((16, 16), np.uint8)
    mask[:8] = 255
    edit = {"strength": 0.5}
    inputs = requests.Inputs(["red", "green"], num=2, seed=7, images=images, masks=[mask], **edit)
    built = requests.build(pipe, inputs)
    assert [row["seed"] for row in built.rows] == list(range(7, 15))
    assert built.places == [0] * 4 + [1] * 4 and built.facts["strength"] == 0.5
    whole = pipe(built.request, batch_size=3)
    alone = pipe(Request([12], ["red"], images=images[1:], masks=[mask], **edit))
    np.testing.assert_array_equal(alone[0], whole[5])


def test_images_are_resized_and_stretching_is_noted(pipe):
    image = squares(8, 8).repeat(2, 0).repeat(4, 1)  # 32 wide, 16 high
    out = pipe(Request([1], ["red"], images=[image], strength=0))[0]
    want = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.LANCZOS))
    means = want.reshape(4, 4, 4, 4, 3).mean((1, 3)).repeat(4, 0).repeat(4, 1)
    assert np.abs(out - means).max() <= 1
    assert pipe.size_multiple == 8
    (note,) = pipe.size_notes(None, [image, image])
    assert "32x16 is resized to 16x16" in note and "a size of 24x8" in note
    assert pipe.size_notes((32, 16), [image]) == []
    stretched = TextToImage(
        dataclasses.replace(pipe.model, task=dataclasses.replace(pipe.task, use_coordinates=True))
    )
    (note,) = stretched.size_notes((32, 16))
    assert "coordinates" in note and "32x16" in note


def test_sizes_are_width_and_height(pipe):
    request = Request([3], ["red"], size=(32, 16))
    image = pipe(request)
    assert image.shape == (1, 16, 32, 3)
    np.testing.assert_array_equal(image, pipe(dataclasses.replace(request, tile=32)))
    assert pipe.walk((1, 2), 3, size=(32, 16)).shape == (3, 4, 8, 4)


def test_tiles_give_the_image_that_one_program_gives(pipe):
    """The decoder sees one latent at a time, so that tiles are exact up to rounding."""
    image = squares(64, 48)
    request = Request([3], ["red"], images=[image], strength=0.5, size=(48, 64))
    whole = pipe(request).astype(int)
    for tile in (16, 32):
        tiled = pipe(dataclasses.replace(request, tile=tile))
        assert np.abs(tiled - whole).max() <= 1


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"size": (30, 16)}, "size=30x16: expected multiples of 8"),
        ({"size": (16, 0)}, "size=0"),
        ({"latents": np.zeros((1, 4, 8, 4), np.float32)}, r"expected \(1, 4, 4, 4\) for these"),
        ({"tile": 24}, "tile=24: expected 0, or a multiple of 16"),
        ({"strength": 1.5}, "strength=1.5: expected"),
        ({"strength": 0.2}, "less than one of the 4 steps; expected 0 or at least 0.25"),
        ({"masks": [np.zeros((16, 16), np.uint8)]}, "nothing in it is white"),
        ({"masks": [np.full((16, 32), 255, np.uint8)]}, "mask: 32x16, and its image 16x16"),
        ({"masks": [np.full((16, 16), 255, np.uint8)] * 2}, "masks: 2 for 1 seeds"),
    ],
)
def test_what_does_not_fit_is_refused(pipe, fields, message):
    with pytest.raises(UserError, match=message):
        pipe(Request([1], ["red"], **{"images": [squares(16, 16)], **fields}))


def test_a_run_that_starts_from_noise_alone_refuses_images(model):
    class NoiseAlone(TextToImage):
        @classmethod
        def options(cls, task):
            return super().options(task) - {"image"}

    with pytest.raises(UserError, match="starts from noise alone"):
        NoiseAlone(model)(Request([1], ["red"], images=[squares(16, 16)]))


def test_a_size_has_two_sides(pipe):
    assert pipe.checked_size() == pipe.checked_size((16, 16)) == (16, 16)
    assert pipe.checked_size([32, 16]) == (32, 16)
    for size in (16, (16, 16, 3)):
        with pytest.raises(UserError, match="expected a width and a height"):
            pipe.checked_size(size)


def test_a_mask_or_a_strength_needs_an_image():
    white = [np.full((16, 16), 255, np.uint8)]
    for fields in ({"masks": white}, {"strength": 0.5}):
        with pytest.raises(UserError, match="expected an image that it applies to"):
            requests.Inputs(**fields)
    with pytest.raises(UserError, match="2 masks for 3 images"):
        requests.Inputs(images=[squares(16, 16)] * 3, masks=white * 2)


def test_gray_counts_as_white_from_the_middle_on():
    mask = np.array([[0, 127], [128, 255]], np.uint8)
    np.testing.assert_array_equal(edits.repainted(mask, (2, 2)), [[False, False], [True, True]])
    np.testing.assert_array_equal(
        edits.repainted(np.stack([mask] * 3, -1), (2, 2)), [[False, False], [True, True]]
    )


def test_the_python_interface_changes_images(loaded, pipe):
    arrays = [squares(16, 16, seed) for seed in (1, 2)]
    images = [Image.fromarray(array) for array in arrays]
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (0, 0, 16, 8))
    out = loaded.generate("red", num=2, seed=5, image=images, mask=mask, strength=0.5)
    assert [x.info["seed"] for x in out] == [5, 6, 7, 8]
    white = [np.asarray(mask)] * 4
    rows = [arrays[0], arrays[0], arrays[1], arrays[1]]
    want = pipe(Request([5, 6, 7, 8], ["red"] * 4, images=rows, masks=white, strength=0.5))
    np.testing.assert_array_equal(np.stack([np.asarray(x) for x in out]), want)
    (wide,) = loaded.generate("red", size=(32, 16))
    assert wide.size == (32, 16)
    with pytest.raises(UserError, match="strength: expected an image"):
        loaded.generate("red", strength=0.5)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "I;16", "1", "L"])
def test_images_and_masks_of_any_mode_are_those_of_their_files(loaded, pipe, kind, tmp_path):
    """The middle is white and the border transparent, of a color that nobody sees."""
    white = np.zeros((16, 16), np.uint8)
    white[4:12, 4:12] = 255
    hidden = np.full((16, 16), 255, np.uint8)
    made = {
        "RGBA": lambda: Image.fromarray(np.dstack([hidden, hidden // 2, hidden, white])),
        "LA": lambda: Image.fromarray(np.dstack([hidden, white]), "LA"),
        "P": lambda: Image.fromarray(white).convert("P"),
        "I;16": lambda: Image.fromarray(white.astype(np.uint16) * 257),
        "1": lambda: Image.fromarray(white).convert("1"),
        "L": lambda: Image.fromarray(white),
    }[kind]()
    made.save(tmp_path / "a.png", **({"transparency": 0} if kind == "P" else {}))
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode == kind
        (out,) = loaded.generate("red", image=opened, mask=opened, strength=0.5)
    pixels = image_files.read(str(tmp_path / "a.png"))
    is_transparent = kind in ("RGBA", "LA", "P")
    assert (pixels[0, 0] == (255 if is_transparent else 0)).all()
    want = pipe(Request([0], ["red"], images=[pixels], masks=[white], strength=0.5))
    np.testing.assert_array_equal(np.asarray(out), want[0])
    mask = image_files.read(str(tmp_path / "a.png"), "black")
    np.testing.assert_array_equal(edits.repainted(mask, (16, 16)), white > 0)


def test_gray_of_16_bits_is_scaled_and_floats_are_refused(model):
    ramp = np.linspace(0, 65535, 256).reshape(16, 16)
    for image in (
        Image.fromarray(ramp.astype(np.int32)),
        Image.frombytes("I;16B", (16, 16), ramp.astype(">u2").tobytes()),
    ):
        colors, opacity = python_api._split(image)
        assert colors.mode == "I;16" and opacity is None
        np.testing.assert_array_equal(np.asarray(colors), ramp.astype(np.uint16))
        (pixels,) = python_api._pixels(image, "image")
        np.testing.assert_array_equal(pixels[..., 0], ramp.astype(np.uint16) // 257)
    floats = Image.fromarray(np.float32(ramp / 65535))
    for call in (
        lambda: Model(model).generate("red", image=floats),
        lambda: python_api._split(floats),
    ):
        with pytest.raises(UserError, match="image: of mode F, floats of unknown range"):
            call()
