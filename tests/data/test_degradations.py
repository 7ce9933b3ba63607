"""Degradations: strength as stated, repeatable, of the input's shape, named mistakes."""

import cv2
import numpy as np
import pytest
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data import degradations
from gen_jax.data.degradations import base, blur, presets
from gen_jax.data.degradations.curriculum import Curriculum
from gen_jax.data.degradations.noise import Poisson
from gen_jax.data.load import order, steps, transforms
from tests.processes import call, one_line_error


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(size=64, channels=3):
    """Smooth with some detail, float32 in [0.1, 0.9]."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(7 * x + 3 * c) * np.cos(9 * y) + 0.3 * np.sin(40 * x * y) for c in range(3)]
    return np.float32(0.5 + 0.3 * np.stack(waves[:channels], -1)).clip(0.1, 0.9)


@pytest.mark.parametrize("name", degradations.PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_presets_keep_the_shape_and_repeat_themselves(name, channels):
    image, how = picture(channels=channels), degradations.build(name)
    before = image.copy()
    for seed in range(4):
        (a, drawn), (b, again) = how(image, rng(seed)), how(image, rng(seed))
        assert a.shape == image.shape and a.dtype == np.float32 and np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)
        assert drawn == again and set(drawn) <= set(degradations.PARAMETERS)
        vector = degradations.as_vector(drawn)
        assert vector.shape == (len(degradations.PARAMETERS),) and (vector >= 0).all()
    np.testing.assert_array_equal(image, before)
    assert not np.array_equal(how(image, rng(1))[0], how(image, rng(2))[0]) or "_x" in name


def test_real_x4_is_damaged_at_a_quarter_of_the_size():
    gray = np.full((96, 90, 3), 0.5, np.float32)
    alike = {}
    for name in ("real_x4", "real_second_order"):
        correlations = []
        for seed in range(6):
            found, drawn = degradations.build(name)(gray, rng(seed))
            noise = (found - found.mean())[..., 0]
            correlations.append(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1])
            if name == "real_x4":
                assert drawn["scale"] == 2.0 and drawn["jpeg"] >= 5 and drawn["blur"] > 0
                assert found.shape == gray.shape and noise.std() * 255 > 0.2
        alike[name] = min(correlations)
    # What happened to one pixel of the file covers four of the image.
    assert alike["real_x4"] > 0.8 > alike["real_second_order"]
    # A radius counts in pixels of the image.
    soft = {"name": "blur", "sigma": (1, 1), "kinds": ("isotropic",)}
    half = {"name": "resize", "factor": (0.5, 1.0), "chance": (0, 1, 0)}
    how = degradations.build({"name": "low_resolution", "scale": 2, "last": (soft,)})
    assert how(gray, rng())[1] == {"scale": 1.0, "blur": 2.0}
    how = degradations.build({"name": "low_resolution", "scale": 2, "steps": (half,)})
    assert how(gray, rng())[0].shape == gray.shape


def test_gaussian_noise_has_its_deviation_and_is_not_clipped():
    white = np.ones((200, 200, 3), np.float32)
    found, drawn = degradations.build("denoise25")(white, rng())
    assert drawn == {"sigma": 25.0}
    assert np.std((found - white) * 255) == pytest.approx(25.0, rel=0.02)
    assert found.max() > 1.2
    gray = degradations.build({"name": "gaussian", "sigma": (25, 25), "gray": 1.0})(white, rng())[0]
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])


@pytest.mark.parametrize("level", [0.1, 0.5, 1.0])
def test_photon_noise_grows_as_the_root_of_the_brightness(level):
    flat = np.full((200, 200, 1), level, np.float32)
    noise = Poisson(shot=(20.0, 20.0), gray=0.0)(flat, rng())[0] - flat
    assert np.std(noise) * 255 == pytest.approx(20.0 * np.sqrt(level), rel=0.03)
    assert abs(noise.mean()) < 0.002


@pytest.mark.parametrize("kind", blur.KINDS)
@pytest.mark.parametrize("sigma", [0.7, 1.5, 2.5])
def test_kernels_sum_to_one_and_have_their_radius(kind, sigma):
    for seed in range(3):
        kernel = np.float64(blur.make_kernel(kind, sigma, rng(seed)))
        assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
        if kind == "sinc":  # no finite radius: the frequency where it cuts off instead
            assert kernel.min() < 0
            continue
        reach = kernel.shape[0] // 2
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        radius = np.sqrt((kernel * (x**2 + y**2)).sum() / 2)
        # A pixel has a width of its own; heavy tails are cut off at three radii.
        room = 0.35 * sigma if kind == "generalised" else max(0.15, 0.1 * sigma)
        assert radius == pytest.approx(sigma, abs=room)
        assert (kernel * x).sum() == pytest.approx(0.0, abs=0.05)


def test_codecs_are_the_real_ones():
    image = picture()
    found, drawn = degradations.build({"name": "jpeg", "quality": (10, 10)})(image, rng())
    pixels = base.to_bytes(image)[..., ::-1]
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 10])
    np.testing.assert_array_equal(base.to_bytes(found), cv2.imdecode(data, 1)[..., ::-1])
    assert drawn == {"jpeg": 90.0}
    errors = [
        np.mean((degradations.build({"name": k, "quality": (q, q)})(image, rng())[0] - image) ** 2)
        for k in ("jpeg", "webp")
        for q in (90, 50, 10)
    ]
    assert errors[:3] == sorted(errors[:3]) and errors[3:] == sorted(errors[3:])


def test_grain_is_correlated_strongest_in_midtones_and_has_its_deviation():
    def grain(level, **fields):
        flat = np.full((200, 200, 3), level, np.float32)
        config = {"name": "grain", "sigma": (10, 10), "size": (1.2, 1.2), "midtones": 0.0} | fields
        out, drawn = degradations.build(config)(flat, rng())
        assert drawn == {"sigma": pytest.approx(255.0 * float((out - flat).std()), rel=0.02)}
        return out - flat

    gray, color = grain(0.5, gray=1.0), grain(0.5, gray=0.0)
    assert 255 * gray.std() == pytest.approx(10.0, rel=0.03)
    neighbors = np.corrcoef(gray[:, 1:, 0].ravel(), gray[:, :-1, 0].ravel())[0, 1]
    assert neighbors == pytest.approx(np.exp(-1 / (4 * 1.2**2)), abs=0.03)
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    assert abs(np.corrcoef(color[..., 0].ravel(), color[..., 2].ravel())[0, 1]) < 0.1
    middle, black = grain(0.5, midtones=1.0), grain(0.0, midtones=1.0)
    assert black.std() == pytest.approx(middle.std() / 4, rel=0.01)


def test_jpeg_grids_are_shifted_and_chroma_is_kept_if_asked():
    image = picture(64)
    plain = {"name": "jpeg", "quality": (20, 20)}
    corner, _ = degradations.build(plain)(image, rng())
    shifted = [degradations.build(plain | {"aligned": 0.0})(image, rng(s))[0] for s in range(3)]

    def steps(x):  # mean step between columns, at the blocks' borders and elsewhere
        step = np.abs(np.diff(x.mean(-1), axis=1)).mean(0)
        return step[7::8].mean() / np.delete(step, np.s_[7::8]).mean()

    assert all(x.shape == image.shape and steps(x) < 0.9 * steps(corner) for x in shifted)
    full = degradations.build(plain | {"subsampled": 0.0})(image, rng())[0]

    def color(x):
        return x - x.mean(-1, keepdims=True)

    errors = [np.abs(color(x) - color(image)).mean() for x in (full, corner)]
    assert errors[0] < errors[1]


def test_shrinking_keeps_flat_areas_and_loses_detail():
    flat = np.full((32, 48, 3), 0.4, np.float32)
    found, drawn = degradations.build("bicubic_x4")(flat, rng())
    np.testing.assert_allclose(found, flat, atol=1e-6)
    assert drawn == {"scale": 2.0}
    stripes = np.float32(np.arange(48) % 2)[None, :, None].repeat(32, 0)
    assert degradations.build("bicubic_x2")(stripes, rng())[0].std() < 0.1


def test_strengths_add_up_along_a_chain():
    noise = {"name": "gaussian", "sigma": (3, 3)}
    more = {"name": "gaussian", "sigma": (4, 4)}
    jpegs = tuple({"name": "jpeg", "quality": (q, q)} for q in (40, 80))
    halves = ({"name": "downscale", "factor": (2, 2)},) * 2
    how = degradations.build({"name": "chain", "steps": (noise, more, *jpegs, *halves)})
    assert how(picture(), rng())[1] == {"sigma": 5.0, "jpeg": 60.0, "scale": 2.0}
    never = degradations.build({"name": "chain", "steps": (noise,), "chance": (0.0,)})
    found, drawn = never(picture(), rng())
    np.testing.assert_allclose(found, picture(), atol=0.5 / 255 + 1e-6)
    assert drawn == {}


@pytest.mark.parametrize(
    "config,word",
    [
        ("denoise26", "denoise26"),
        ({"sigma": (1, 2)}, r"degradation\.name=None"),
        ({"name": "gaussian", "sgima": 3}, "sgima"),
        ({"name": "gaussian", "sigma": (5, 1)}, r"sigma=\(5, 1\)"),
        ({"name": "blur", "kinds": ("boxy",)}, "boxy"),
        ({"name": "downscale", "factor": (0.5, 1)}, "factor"),
        ({"name": "chain", "steps": ({"name": "jpg"},)}, r"steps\[0\]\.name='jpg'"),
        ({"name": "chain", "steps": (), "chance": (1.0,)}, "chance has 1"),
    ],
)
def test_mistakes_are_named(config, word):
    with pytest.raises(UserError, match=word):
        degradations.build(config)


def test_every_kind_is_reached_by_a_preset():
    def kinds(config):
        yield config["name"]
        for step in config.get("steps", ()):
            yield from kinds(step)

    used = {k for config in presets.PRESETS.values() for k in kinds(config)}
    assert used == set(presets.KINDS)


def example(height, width, seed=0):
    image = rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return {"image": image, "label": -1, "captions": [], "attributes": {}, "key": "k"}


def test_crops_are_the_images_own_pixels():
    whole = example(40, 50)
    step = transforms.Restoration("denoise25").build(32, train=True)
    found = step(whole, order.augmentation_rng(0, 7))
    again = step(whole, order.augmentation_rng(0, 7))
    for key in ("image", "degraded", "degradation"):
        np.testing.assert_array_equal(found[key], again[key])
    assert found["image"].shape == found["degraded"].shape == (32, 32, 3)
    assert found["degradation"][0] == pytest.approx(25 / 75)
    values = {tuple(v) for v in whole["image"].reshape(-1, 3)}
    assert {tuple(v) for v in found["image"].reshape(-1, 3)} <= values


def test_gray_crops_of_small_images_are_mirrored_and_exact():
    whole = example(20, 60)
    whole["image"][:] = whole["image"][..., :1]
    step = transforms.Restoration("denoise25", gray=True).build(32, train=False)
    found = step(whole, rng())["image"]
    np.testing.assert_array_equal(found[:20, :, 0], whole["image"][:, 14:46, 0])
    np.testing.assert_array_equal(found[20:, :, 0], found[8:20, :, 0][::-1])


def test_the_preview_draws_every_preset(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(example(140, 150, i)["image"]).save(folder / f"{i}.png")
    (folder / "2.png").write_bytes(b"no image")
    out = tmp_path / "sheets" / "a.png"
    given = (f"--source={folder}", f"--preview={out}")
    assert call("prepare", *given).returncode == 0
    with Image.open(out) as sheet:
        rows = len(degradations.PRESETS) + 1
        assert sheet.width < 2 * 140 and sheet.height > rows * 128
    for path in folder.glob("*.png"):
        path.write_bytes(b"no image")
    assert "none of its images can be read" in one_line_error(call("prepare", *given))


def test_a_curriculum_begins_mildly_and_ends_without_a_limit():
    plan, how = (
        Curriculum(steps=100, start=5.0, end=50.0, free=0.25),
        degradations.build("denoise_blind"),
    )
    gray = np.full((16, 16, 1), 128, np.uint8)
    run = steps.degrade(how, plan)

    def errors(step):
        made = [run({"image": gray, "step": step}, rng(i))["degradation"] for i in range(80)]
        return np.array([m[base.PARAMETERS.index("error")] * base.SCALES["error"] for m in made])

    early, late = errors(0), errors(100)
    assert np.median(early) < 8 and early.max() > 20, "every batch is mixed"
    assert np.median(late) > 20
    assert plan.limit(50) == pytest.approx(27.5) and plan.limit(100) == np.inf
    assert Curriculum().limit(0) == np.inf
    with pytest.raises(UserError, match="curriculum_steps=-1"):
        Curriculum(steps=-1)


def test_saturation_grows_and_gray_stays_gray():
    whole = example(40, 40)
    step = transforms.Restoration("denoise25", saturation_prob=1.0).build(40, train=True)
    plain = transforms.Restoration("denoise25").build(40, train=False)

    def spread(image):
        return np.ptp(np.float32(image), axis=-1).mean()

    whole["image"] = (whole["image"] // 4 + 96).astype(np.uint8)
    # A tenth of the training crops are gray.
    widest = max(spread(step(whole, rng(seed))["image"]) for seed in range(4))
    assert widest > 1.2 * spread(plain(whole, rng())["image"])
    whole["image"][:] = whole["image"][..., :1]
    np.testing.assert_allclose(np.ptp(step(whole, rng(3))["image"], axis=-1), 0)
