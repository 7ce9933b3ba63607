"""Benchmarks of restoration on a few small pictures: how they are degraded, compared and named."""

import io
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from configs import restore
from gen_jax.common import config as config_lib
from gen_jax.common import strict_json
from gen_jax.common.errors import UserError
from gen_jax.data.degradations.bicubic import imresize
from gen_jax.evaluation.restoration import benchmarks, pictures, report, restorers, run
from gen_jax.evaluation.restoration.benchmarks import BENCHMARKS, Given
from gen_jax.evaluation.restoration.score import score
from gen_jax.metrics.luma import bt601_luma
from gen_jax.runs import layout, reader
from gen_jax.runs import weights as run_weights
from gen_jax.tasks import build_task
from tests import tiny_restorer, tiny_towers

SIZE = (24, 20)


def picture(seed, channels):
    """A smooth picture with edges; [h, w] where it is gray."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 256, (6, 5, channels)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    return low[..., 0] if channels == 1 else low


def as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        for kind, channels in (("gray", 1), ("rgb", 3)):
            for i in range(2):
                out.writestr(f"{kind}/{i}.png", as_png(picture(i, channels)))
            out.writestr(f"{kind}/notes.txt", "no picture")
        for name, seed in (("a_real", 1), ("a_mean", 0), ("b_real", 0), ("b_mean", 0)):
            out.writestr(f"pairs/{name}.png", as_png(picture(seed, 3)))
        out.writestr("lone/a_real.png", as_png(picture(0, 3)))
        out.writestr("bad/a.png", as_png(picture(0, 3))[:-60])
    return path


def weights(folder, name, first, last, scale=0.05):
    rng = np.random.default_rng(0)
    state = {}
    for i, (a, b) in enumerate(((first, 4), (4, 4), (4, last))):
        state[f"conv{i:02d}.kernel_hwio"] = rng.normal(0, scale, (3, 3, a, b)).astype(np.float32)
        state[f"conv{i:02d}.bias"] = np.zeros(b, np.float32)
    save_file(state, folder / f"{name}.safetensors")
    return str(folder / f"{name}.safetensors")


def test_pictures_are_found_below_a_prefix_and_in_a_folder(archive, tmp_path):
    found = pictures.listed(f"{archive}:gray")
    assert [p.name for p in found] == ["0.png", "1.png"]
    np.testing.assert_array_equal(found[1].pixels()[..., 0], picture(1, 1))
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    same = pictures.listed(str(tmp_path / "gray"))
    assert [p.name for p in same] == ["0.png", "1.png"]
    np.testing.assert_array_equal(same[1].pixels(), found[1].pixels())
    assert [p.name for p in pictures.listed(str(archive))][-2:] == ["rgb/0.png", "rgb/1.png"]
    assert pictures.listed(f"{archive}:rgb/")[0].pixels().shape == (*SIZE, 3)


@pytest.mark.parametrize("kind,channels", [("gray", 1), ("color", 3)])
def test_noise_is_numpys_from_seed_0_for_each_picture(archive, kind, channels):
    prefix = "gray" if channels == 1 else "rgb"
    for one in pictures.listed(f"{archive}:{prefix}"):
        case = BENCHMARKS[f"denoise_{kind}"].case(Given(sigma=50.0), one)
        # As the literature's scripts draw it, from the global generator.
        np.random.seed(seed=0)
        want = np.float32(one.pixels() / 255.0)
        want += np.random.normal(0, 50 / 255.0, want.shape)
        np.testing.assert_allclose(case.degraded, want, atol=1e-7)
        assert case.degraded.shape == (*SIZE, channels) and case.degraded.min() < 0


def test_jpeg_is_pillows(archive):
    one = pictures.listed(f"{archive}:gray")[0]
    file = io.BytesIO()
    Image.fromarray(picture(0, 1)).save(file, "JPEG", quality=10)
    have = BENCHMARKS["jpeg"].case(Given(quality=10), one)
    np.testing.assert_array_equal(np.round(have.degraded[..., 0] * 255), Image.open(file))


def test_jpeg_of_color_is_rgb_with_halved_chroma(archive):
    one = pictures.listed(f"{archive}:rgb")[0]
    file = io.BytesIO()
    Image.fromarray(picture(0, 3)).save(file, "JPEG", quality=10, subsampling="4:2:0")
    have = BENCHMARKS["jpeg"].case(Given(quality=10), one)
    np.testing.assert_array_equal(np.round(have.degraded * 255), Image.open(file))
    np.testing.assert_array_equal(have.reference, picture(0, 3))
    same = pictures.Picture("a", "a", lambda: as_png(picture(0, 1)[..., None].repeat(3, -1)))
    assert BENCHMARKS["jpeg"].case(Given(quality=10), same).degraded.shape == (*SIZE, 1)
    found = run.run("jpeg", f"{archive}:rgb", "identity")
    want = np.mean((np.asarray(Image.open(file)).astype(float) - picture(0, 3)) ** 2)
    assert found["rows"][0]["psnr"] == pytest.approx(10 * np.log10(255**2 / want), abs=1e-4)


def test_sr_is_cut_to_the_scale_and_shrunk():
    pixels = picture(0, 3)[:23]
    one = pictures.Picture("a.png", "a.png", lambda: as_png(pixels))
    case = BENCHMARKS["sr"].case(Given(scale=3), one)
    np.testing.assert_array_equal(case.reference, pixels[:21, :18])
    want = imresize(case.reference, 1 / 3)
    np.testing.assert_array_equal(np.round(case.degraded * 255), want)
    with pytest.raises(UserError, match="too small for scale=8"):
        BENCHMARKS["sr"].case(Given(scale=8), one)


def test_score_is_scikit_images_at_8_bits():
    rng = np.random.default_rng(0)
    reference = picture(0, 3)
    restored = np.float32(reference / 255 + rng.normal(0, 0.1, reference.shape))
    have = score(restored, reference)
    rounded = np.round(np.clip(restored, 0, 1) * 255).astype(np.uint8)
    options = dict(data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    want = structural_similarity(rounded, reference, channel_axis=-1, **options)
    assert have["psnr"] == pytest.approx(peak_signal_noise_ratio(reference, rounded), abs=1e-4)
    # scikit-image leaves out a border of the window's radius, as this does.
    assert have["ssim"] == pytest.approx(want, abs=1e-4)


def test_luma_is_rounded_and_the_border_cut():
    reference = picture(0, 3)
    restored = np.float32(picture(1, 3) / 255)
    have = score(restored, reference, luma=True, border=3)
    y = [
        np.round(np.asarray(bt601_luma(np.float32(v[None] / 255)))[0, 3:-3, 3:-3] * 255)
        for v in (picture(1, 3), reference)
    ]
    want = 10 * np.log10(255**2 / np.mean((y[0] - y[1]) ** 2))
    assert have["psnr"] == pytest.approx(want, abs=1e-3)
    assert have["ssim"] < 1
    # A gray picture is its own luma.
    gray = picture(0, 1)[..., None]
    assert score(np.float32(gray / 255) + 10 / 255, gray, luma=True)["psnr"] == pytest.approx(
        10 * np.log10(255**2 / np.mean((np.minimum(gray + 10.0, 255) - gray) ** 2)), abs=1e-3
    )


def test_super_resolution_is_compared_without_a_border_as_wide_as_the_scale(archive):
    found = run.run("sr", f"{archive}:rgb", "bicubic", given=Given(scale=3))
    for index, row in enumerate(found["rows"]):
        original = picture(index, 3)[:24, :18]
        enlarged = imresize(imresize(original, 1 / 3), 3)
        y = [bt601_luma(np.float32(v[None] / 255)) for v in (enlarged, original)]
        y = [np.round(np.asarray(v)[0, 3:-3, 3:-3] * 255) for v in y]
        want = 10 * np.log10(255**2 / np.mean((y[0] - y[1]) ** 2))
        assert row["psnr"] == pytest.approx(want, abs=0.02)


def test_identity_is_the_degraded_picture_and_rows_are_all_there(archive):
    seen = []
    found = run.run(
        "denoise_color", f"{archive}:rgb", "identity",
        progress=lambda done, total, row: seen.append((done, total, row["name"])),
    )  # fmt: skip
    assert seen == [(1, 2, "0.png"), (2, 2, "1.png")]
    assert found["n"] == 2 and found["sigma"] == 25 and "scale" not in found
    values = [row["psnr"] for row in found["rows"]]
    assert found["psnr"] == pytest.approx(np.mean(values)) and 18 < found["psnr"] < 24
    assert found["lpips"] is None and "encoder=" in found["lpips_reason"]
    lines = report.table(found).splitlines()
    assert lines[-1].startswith("mean of 2") and f"{found['psnr']:.2f}" in lines[-1]


def test_several_strengths_are_a_table(archive):
    found = run.run_levels(
        "denoise_color", f"{archive}:rgb", "identity", "", {"sigma": ["15", "50"]}
    )
    assert [level["sigma"] for level in found] == [15.0, 50.0]
    one = run.run("denoise_color", f"{archive}:rgb", "identity", given=Given(sigma=50.0))
    assert found[1] == one
    lines = report.levels(found).splitlines()
    assert lines[0].split()[0] == "sigma" and len(lines) == 4
    assert lines[2].split()[:2] == ["50", f"{one['psnr']:.2f}"]
    wrong = {"sigma": ["loud"]}, {"quality": ["10", "0.5"]}, {"sigma": ["15", "500"]}
    for levels, word in zip(wrong, ("expected a number", "whole number", "from 0 to 255")):
        with pytest.raises(UserError, match=word):
            run.run_levels("denoise_color", f"{archive}:rgb", "identity", "", levels)


def test_pairs_belong_together_and_equal_ones_are_no_infinity(archive):
    found = run.run("real_pairs", f"{archive}:pairs", "identity")
    first, second = found["rows"]
    assert first["name"] == "a_real.png" and first["psnr"] < 20
    assert second["psnr"] == np.inf and second["ssim"] == pytest.approx(1)
    assert strict_json.loads(strict_json.dumps(found))["psnr"] == "Infinity"
    assert "inf" in report.table(found)


def test_lpips_where_a_tower_is_named(archive, tmp_path, monkeypatch):
    spec = tiny_towers.distance(tmp_path, monkeypatch)
    found = run.run("denoise_color", f"{archive}:rgb", "identity", encoder=[spec])
    assert "lpips_reason" not in found and found["lpips"] > 0
    assert found["lpips"] == pytest.approx(np.mean([row["lpips"] for row in found["rows"]]))
    gray = run.run("denoise_gray", f"{archive}:gray", "identity", encoder=[spec])
    assert gray["lpips"] > 0
    assert "LPIPS" in report.table(gray)


def test_networks_restore_by_their_weights(archive, tmp_path):
    name = weights(tmp_path, "gray", 1, 1)
    denoise = restorers.build("dncnn", "denoise_gray", name, Given(sigma=25.0))
    x = np.random.default_rng(0).uniform(0, 1, (*SIZE, 1)).astype(np.float32)
    y = denoise(x)
    assert y.shape == x.shape and 0 < np.abs(y - x).max() < 1
    with pytest.raises(UserError, match="a network for gray pictures, these are colour"):
        denoise(np.zeros((*SIZE, 3), np.float32))
    # In super-resolution a gray network changes the luma and leaves the colour.
    enlarge = restorers.build("dncnn", "sr", name, Given(scale=2))
    small = np.random.default_rng(0).uniform(0.2, 0.8, (12, 10, 3)).astype(np.float32)
    plain, better = imresize(small, 2), enlarge(small)
    luma = [np.asarray(bt601_luma(v[None]))[0] for v in (plain, better)]
    np.testing.assert_allclose(luma[1], denoise(luma[0]), atol=1e-5)
    difference = better - plain
    np.testing.assert_allclose(difference, difference[..., :1].repeat(3, -1), atol=1e-6)
    # FFDNet hears the noise level.
    name = weights(tmp_path, "ff", 5, 4, scale=0.5)
    weak, strong = (
        restorers.build("ffdnet", "denoise_gray", name, Given(sigma=s))(x) for s in (5.0, 75.0)
    )
    assert weak.shape == x.shape and np.abs(weak - strong).max() > 1e-3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory whose network adds nothing to what it is given."""
    folder = tmp_path_factory.mktemp("runs") / "restore"
    folder.mkdir()
    config = restore.get_config("debug,variant=ffdnet,gray")
    (folder / layout.CONFIG).write_text(config_lib.to_json(config))
    task = build_task(config.task.to_dict())
    spec = {k: np.zeros((1, *v.shape), v.dtype) for k, v in task.batch_spec().items()}
    params, _ = jax.eval_shape(task.init, jax.random.key(0), spec)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)
    run_weights.save(folder / layout.WEIGHTS, {"params": zeros})
    return str(folder)


def test_a_run_restores(archive, trained):
    found = run.run("denoise_gray", f"{archive}:gray", trained, given=Given(sigma=25.0))
    plain = run.run("denoise_gray", f"{archive}:gray", "identity", given=Given(sigma=25.0))
    assert found["psnr"] == plain["psnr"] and found["n"] == 2
    with pytest.raises(UserError, match="trained on 1 channels, these pictures have 3"):
        run.run("denoise_color", f"{archive}:rgb", trained)
    with pytest.raises(UserError, match="is a run, which has its own weights"):
        restorers.build(trained, "denoise_gray", "x.safetensors", Given())
    with pytest.raises(UserError, match="its FFDNet needs sigma"):
        restorers.build(trained, "jpeg", "", Given(quality=10))
    with pytest.raises(UserError, match="stage 'vae', which restores nothing"):
        restorers.build(str(reader.resolve("package:vae_photos")), "jpeg", "", Given(quality=10))


MISTAKES = [
    (("blur", "gray", "identity"), {}, "benchmark=blur: expected one of denoise_gray"),
    (("denoise_gray", "gray", "best"), {}, "restorer=best: expected one of identity, bicubic"),
    (("denoise_gray", "none", "identity"), {}, "nothing below 'none'; it has bad, gray"),
    (("denoise_gray", "rgb", "identity"), {}, "a color image; this benchmark expects gray"),
    (("denoise_color", "bad", "identity"), {}, "bad/a.png: (truncated|corrupt)"),
    (("real_pairs", "lone", "identity"), {}, "its reference a_mean.png is missing"),
    (("real_pairs", "gray", "identity"), {}, "no picture here is called"),
    (("sr", "rgb", "identity"), {}, "makes no sense for benchmark=sr"),
    (("jpeg", "gray", "bicubic"), {}, "restorer=bicubic goes with benchmark=sr"),
    (("jpeg", "gray", "dncnn"), {}, "needs weights"),
    (("jpeg", "gray", "identity"), {"weights": "x"}, "takes no weights"),
    (("jpeg", "gray", "identity"), {"given": Given(sigma=5.0)}, "sigma goes with"),
    (("jpeg", "gray", "identity"), {"given": Given(quality=0)}, "quality=0: expected a whole"),
    (("real_pairs", "pairs", "ffdnet"), {"weights": "x"}, "needs sigma"),
    (("jpeg", "gray", "identity"), {"encoder": ["dino_tiny"]}, "needs one encoder of its kind"),
    (("denoise_gray", "gray", "dncnn"), {"weights": "/none.safetensors"}, "no such file"),
]  # fmt: skip


@pytest.mark.parametrize("args,options,word", MISTAKES)
def test_mistakes_are_named(archive, args, options, word):
    benchmark, prefix, restorer = args
    with pytest.raises(UserError, match=word):
        run.run(benchmark, f"{archive}:{prefix}", restorer, **options)


def test_folders_without_pictures_are_named(tmp_path):
    for spec, word in ((tmp_path, "no image in this"), (tmp_path / "x", "no such folder")):
        with pytest.raises(UserError, match=word):
            pictures.listed(str(spec))
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    (tmp_path / "a.zip").write_bytes(pointer)
    with pytest.raises(UserError, match=r"a\.zip: is a git-lfs pointer: run `git lfs pull`"):
        pictures.listed(str(tmp_path / "a.zip"))
    (tmp_path / "a.png").write_bytes(pointer)
    with pytest.raises(UserError, match=r"a\.png: git-lfs pointer: not the image: run"):
        pictures.listed(str(tmp_path))[0].pixels()


def test_what_is_left_out_stands_in_the_result(tmp_path):
    (tmp_path / "a.png").write_bytes(as_png(picture(0, 3)))
    (tmp_path / "._a.png").write_bytes(b"Mac OS X")
    found = run.run("denoise_color", str(tmp_path), "identity")
    assert found["n"] == 1 and found["left_out"] == "1 hidden (._a.png)"
    assert report.table(found).endswith("\nleft out: 1 hidden (._a.png)")
    assert report.levels([found]).endswith("\nleft out: 1 hidden (._a.png)")


def test_weights_that_give_no_numbers_are_named(archive, tmp_path):
    name = weights(tmp_path, "nan", 1, 1, scale=np.nan)
    with pytest.raises(UserError, match="not finite"):
        run.run("denoise_gray", f"{archive}:gray", "dncnn", name)


def test_every_benchmark_has_a_restorer_that_needs_nothing():
    for name in BENCHMARKS:
        free = "bicubic" if name == "sr" else "identity"
        assert restorers.build(free, name, "", benchmarks.Given(scale=2))


def test_a_run_for_colour_restores_gray_and_small_pictures_by_its_own_estimate(archive, tmp_path):
    name = tiny_restorer.make(tmp_path / "run", text=True)
    found = run.run("denoise_gray", f"{archive}:gray", name, given=Given(sigma=25.0))
    assert found["n"] == 2 and np.isfinite(found["psnr"])
    small = np.random.default_rng(0).random((12, 10, 3), np.float32)
    large = restorers.build(name, "sr", "", Given(scale=2))(small)
    assert large.shape == (24, 20, 3) and np.abs(large - imresize(small, 2)).max() > 1e-3
    other = restorers.build(name, "denoise_color", "", Given(sigma=1.0))(imresize(small, 2))
    assert np.abs(other - large).max() > 1e-6, "the factor is not told"
