"""The restorer that comes with the package, on real photographs."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks import instructions, restore_kinds
from gen_jax.common.errors import UserError
from gen_jax.data import degradations
from gen_jax.data.degradations.base import from_bytes, to_bytes
from gen_jax.encoders import image_distance
from gen_jax.evaluation.restoration import pictures
from gen_jax.evaluation.restoration.score import score
from gen_jax.pipelines.python_api import Model
from gen_jax.pipelines.restoration import Restorer
from gen_jax.runs import reader

pytestmark = pytest.mark.usefixtures("optimized")

# Of these pictures' middles LPIPS finds the artefacts less of a loss than what is smoothed with
# them (see the card).
ROUGHER = ("blur, noise, JPEG",)


@pytest.fixture(scope="module")
def restorer():
    return Restorer(reader.load("package:restore"))


def psnr(a, b):
    return -10 * np.log10(np.mean((a / 255.0 - b / 255.0) ** 2) + 1e-12)


def test_it_denoises_and_says_by_how_much(restorer):
    skimage = pytest.importorskip("skimage.data")
    clean = skimage.astronaut()[0:128, 160:288]
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).round().astype(np.uint8)
    found = restorer(noisy)
    assert psnr(found.pixels, clean) > psnr(noisy, clean) + 6
    assert found.told["sigma"] == pytest.approx(25, abs=5)
    assert found.gate > restorer(clean).gate + 0.2


def test_from_python_any_mode_keeps_its_channels(restorer):
    pixels = pytest.importorskip("skimage.data").astronaut()[0:128, 160:288]
    model = Model(restorer.model)
    want = restorer(pixels, prompt="remove the noise", strength=0.5)
    image = Image.fromarray(pixels)
    done = model.restore(image, "remove the noise", strength=0.5)
    np.testing.assert_array_equal(done, want.pixels)
    assert done.info == {
        "degradation": want.told,
        "gate": want.gate,
        "understood": "remove noise",
        "notes": (),
    }
    opacity = Image.linear_gradient("L").resize(image.size)
    image.putalpha(opacity)
    clear = model.restore(image, "remove the noise", strength=0.5)
    np.testing.assert_array_equal(clear, np.dstack([want.pixels, opacity]))
    for mode, kept in (("1", "L"), ("I;16", "I;16"), ("P", "RGB")):
        given = image.convert("RGB").convert("I" if mode == "I;16" else mode)
        if mode == "I;16":
            given = Image.fromarray(np.asarray(given, np.uint16) * 257)
        assert model.restore(given).mode == kept
    turned = Image.fromarray(np.rot90(pixels))
    turned.getexif()[0x0112] = 6  # on its side
    np.testing.assert_array_equal(
        model.restore(turned, "remove the noise", strength=0.5), want.pixels
    )
    nothing = model.restore(image, noise=0, blur=0, jpeg=100)  # to remove
    np.testing.assert_array_equal(nothing.convert("RGB"), image.convert("RGB"))
    for values, words in (
        ({"noise": 151}, "noise=151"),
        ({"jpeg": 0}, "jpeg=0"),
        ({"generative": 0.5}, "generative: "),
    ):
        with pytest.raises(UserError, match=words):
            model.restore(image, **values)
    with pytest.raises(UserError, match=r"does not generate images; use gen_jax\.restore"):
        model.generate("a cat")


def test_only_what_an_instruction_names_is_removed(restorer):
    clean = pytest.importorskip("skimage.data").astronaut()[0:128, 160:288]
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).round().astype(np.uint8)
    soft = gaussian_filter(clean, (1.3, 1.3, 0))
    buffer = io.BytesIO()
    Image.fromarray(clean).save(buffer, "JPEG", quality=25)
    blocky = np.asarray(Image.open(buffer))
    for prompt in ("do not remove the noise", "leave it as it is", "colorize it", "weniger rot"):
        kept = restorer(noisy, prompt=prompt)
        np.testing.assert_array_equal(kept.pixels, noisy)
        assert kept.gate is None and kept.understood.notes
    # PSNR in dB to the input, which is kept, and to the clean image.
    for image, prompt, least in (
        (noisy, "sharpen it and remove the JPEG artifacts, but leave the grain", 40),
        (noisy, "remove compression artefacts without denoising", 40),
        (soft, "remove the noise and the blockiness; don't sharpen", 45),
        (blocky, "denoise and unblur, keep the compression artifacts", 42),
    ):
        kept = psnr(restorer(image, prompt=prompt).pixels, image)
        assert kept > least and kept > psnr(restorer(image).pixels, image) + 3, (prompt, kept)
    for image, prompt, least in (
        (noisy, "please get rid of the grain, and do not sharpen", 7),
        (blocky, "deblock it", 0.25),
    ):
        result = restorer(image, prompt=prompt)
        assert psnr(result.pixels, clean) > psnr(image, clean) + least, prompt
    half = restorer(noisy, prompt="reduce the noise by half").pixels
    full = restorer(noisy, prompt="reduce the noise").pixels
    inside = (full > 0) & (full < 255)  # the others were clipped
    assert np.abs(half - (noisy + full.astype(float)) / 2)[inside].max() <= 1


# One of each family of damage in CI; all of them are figures of the model's card.
IN_CI = ("camera, ISO high", "JPEG 10", "Gaussian blur 1.6", "nothing")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow if kind in IN_CI else pytest.mark.nightly)
        for kind in restore_kinds.KINDS
    ],
)
def test_every_kind_of_damage_becomes_less(restorer, shared, kind):
    archive = shared / "restore_color.zip"
    weights = f"{shared / 'weights_small.zip'}:stlpips_alex_backbone.safetensors"
    distance = image_distance.open_distance(f"lpips-st-alex:{weights}", batch_size=1)
    how, rows = degradations.build(restore_kinds.KINDS[kind]), []
    for index, picture in enumerate(pictures.listed(f"{archive}:CBSD68")[::6]):
        x = np.ascontiguousarray(picture.pixels()[64:256, 64:256])
        y = to_bytes(how(from_bytes(x), np.random.default_rng([0, index]))[0])
        z = restorer(y).pixels
        rows.append([score(from_bytes(v), x, distance=distance) for v in (y, z)])
    before, after = ({k: np.mean([r[i][k] for r in rows]) for k in rows[0][0]} for i in (0, 1))
    if kind == "nothing":
        assert after["psnr"] > 38
        return
    assert after["psnr"] > before["psnr"]
    if kind not in ROUGHER:
        assert after["lpips"] < before["lpips"]


# Tiled equals whole on small ones: tests/pipelines/test_tiles.py, tests/test_restore.py.
@pytest.mark.nightly
def test_tiles_are_as_the_whole(restorer, shared):
    found = pictures.listed(f"{shared / 'restore_color.zip'}:CBSD68")
    # A photograph of 2048x1536: the middles of thirty, side by side, under noise.
    cells = [p.pixels() for p in found[:30]]
    cells = [np.pad(c, ((0, 512), (0, 512), (0, 0)), mode="reflect")[:307, :342] for c in cells]
    whole = np.vstack([np.hstack(cells[6 * i : 6 * i + 6]) for i in range(5)])[:1536, :2048]
    noise = np.random.default_rng(0).normal(0, 15, whole.shape)
    noisy = np.clip(whole + noise, 0, 255).round().astype(np.uint8)
    a, b = restorer(noisy, tile=0).pixels, restorer(noisy, tile=512).pixels
    assert psnr(a, b) > 50
    # No seam: no row and no column differs by more than a quarter of a step of 8 bits.
    difference = np.abs(a.astype(float) - b).mean(-1)
    for axis in (0, 1):
        assert difference.mean(axis).max() < 0.25


@pytest.mark.nightly
def test_words_matter_and_the_gate_knows(restorer, shared):
    class Args:
        run, size, repeats = "package:restore", 128, 2
        images = f"{shared / 'restore_color.zip'}:CBSD68"
        degradations = ("denoise_blind", "photograph")

    found = instructions.measure(Args)
    asked = found["instructions"]
    assert asked["psnr_matching"] > asked["psnr_empty"] + 0.5
    assert asked["psnr_wrong"] < asked["psnr_empty"]
    assert found["denoise_blind"]["sigma_error"] < 2
    assert found["denoise_blind"]["gate_severity"] > 0.9
