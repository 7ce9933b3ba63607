"""Image metrics through tiny random towers, against the pure functions on the same features."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gen_jax import encoders
from gen_jax.common.errors import UserError
from gen_jax.encoders import clip_text, image_features
from gen_jax.evaluation import folders
from gen_jax.evaluation.base import Predictor
from gen_jax.evaluation.comparison import Comparison, Encoders
from gen_jax.evaluation.image_metrics import METRICS, measure
from gen_jax.evaluation.image_quality import ImageQuality
from gen_jax.evaluation.image_sets import ArrayImages, FolderImages
from gen_jax.evaluation.reconstruction import Reconstruction
from gen_jax.metrics import cmmd, frechet, kid, vendi
from gen_jax.parallel.mesh import make_mesh
from tests import tiny_towers

SIDE = 20


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as found:
        yield found


@pytest.fixture(scope="module")
def specs(tmp_path_factory, patch):
    root = tmp_path_factory.mktemp("towers")
    lpips = tiny_towers.distance(root / "lpips", patch)
    return [tiny_towers.dino(root / "dino"), *tiny_towers.clip(root / "clip"), lpips]


def images(seed, count=24, noise=60):
    """Smooth pictures with noise upon them."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 255, (count, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    return np.clip(low + noise * rng.normal(size=low.shape), 0, 255).astype(np.uint8)


def compared(specs, a, b, texts=None):
    encoders = Encoders.sorted_from(specs)
    return Comparison(ArrayImages(a), ArrayImages(b), encoders, len(a) == len(b), texts)


def test_features_are_the_towers_in_any_batches(specs):
    x = images(0, 70)  # more than one batch
    run = image_features.open_features(specs[0])
    module, params = encoders.load(*encoders.parse(specs[0]))
    assert run.side == 28
    # By Pillow in floats, and ImageNet's statistics.
    bicubic = {"size": (28, 28), "resample": Image.Resampling.BICUBIC}
    channels = np.moveaxis(x[:8], -1, 1).astype(np.float32)
    resized = [[Image.fromarray(c).resize(**bicubic) for c in one] for one in channels]
    resized = [[np.asarray(c) for c in one] for one in resized]
    unit = np.clip(np.moveaxis(np.array(resized), 1, -1) / 255, 0, 1)
    inputs = (unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    want = jax.jit(module.apply)({"params": params}, jnp.asarray(inputs, jnp.float32))["cls"]
    np.testing.assert_allclose(run(x)[:8], want, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(run(x[66:67]), run(x)[66:67], rtol=1e-4, atol=1e-5)


def test_each_metric_takes_the_towers_it_has_a_use_for(specs):
    a, b = images(1), images(2, noise=90)
    texts = ["a cat", "A  dot"] * 12
    what = compared(specs, a, b, texts)
    names = [n for n in METRICS if "fid" not in n and "clean" not in n and n != "kid"]
    found, notes = measure(names, what)
    dino, clip = (what.both(spec) for spec in specs[:2])
    np.testing.assert_allclose(found["fd_dinov2-small"], frechet.frechet(*dino))
    np.testing.assert_allclose(found["kd_dinov2-small"], kid.kernel_distance(*dino).value)
    np.testing.assert_allclose(found["cmmd"], cmmd.cmmd(*clip))
    np.testing.assert_allclose(found["vendi_dinov2-small"], vendi.vendi_score(dino[1]))
    assert {"precision_dinov2-small", "coverage_clip-vit-base-patch32-vision"} <= set(found)
    assert "24 images" in notes["fd_dinov2-small"] and "cmmd" not in notes
    for name in ("fd_dinov2-small", "kd_dinov2-small", "cmmd", "clip_score", "lpips"):
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"], name
    # CLIPScore, written out.
    text = clip_text.open_texts(specs[2])([f"A photo depicts {t}" for t in texts])
    cosines = (clip[1] * text).sum(1) / np.linalg.norm(clip[1], axis=1)
    cosines /= np.linalg.norm(text, axis=1)
    np.testing.assert_allclose(found["clip_cosine"], cosines.mean(), atol=1e-5)
    want = 2.5 * np.maximum(cosines, 0).mean()
    np.testing.assert_allclose(found["clip_score"], want, atol=1e-5)


def test_a_set_against_itself_and_against_ever_noisier_copies(specs):
    clean = images(3, noise=0)
    names = ("fd", "kd", "cmmd", "lpips", "psnr")
    same, _ = measure(names, compared(specs, clean, clean))
    assert same["lpips"] == 0 and abs(same["cmmd"]) < 1e-6 and same["cmmd_unbiased"] <= 1e-6
    assert same["fd_dinov2-small"] < 1e-6 and abs(same["kd_dinov2-small"]) < 0.1
    noise = np.random.default_rng(0).normal(size=clean.shape)
    rows = []
    for strength in (5, 20, 60):
        bad = np.clip(clean + strength * noise, 0, 255).astype(np.uint8)
        rows.append(measure(names, compared(specs, clean, bad)).metrics)
    for name in ("lpips", "cmmd", "fd_dinov2-small"):
        values = [row[name] for row in rows]
        assert values == sorted(values) and values[0] > 0, name


def test_diversity_is_the_mean_over_all_pairs(specs):
    x = images(4, 5)
    found, _ = measure(["diversity"], compared(specs, x, x))
    distance = compared(specs, x, x).distance("lpips")
    pairs = [distance(x[i : i + 1], x[j : j + 1])[0] for i in range(5) for j in range(i)]
    np.testing.assert_allclose(found["diversity"], np.mean(pairs), rtol=1e-5)
    copies = np.tile(x[:1], (4, 1, 1, 1))
    assert measure(["diversity"], compared(specs, x, copies)).metrics["diversity"] == 0


@pytest.mark.parametrize(
    "metrics,picked,word",
    [
        (["fid"], [0], "encoder=inception-v3-fid"),
        (["clean_kid"], [], "encoder=inception-v3-fid"),
        (["cmmd"], [0], "clip-vit-large-patch14-vision"),
        (["cmmd"], [1, 1], "2 fit"),
        (["lpips"], [0], "lpips-vgg"),
        (["clip_score"], [1, 2], "needs texts"),
        (["fd", "is"], [], "unknown metric 'is'"),
    ],
)
def test_what_is_missing_is_named(specs, metrics, picked, word):
    x = images(0, 4)
    with pytest.raises(UserError, match=word):
        measure(metrics, compared([specs[i] for i in picked], x, x))


def test_unpaired_and_useless_are_named(specs):
    with pytest.raises(UserError, match="compares pairs"):
        measure(["lpips"], compared(specs, images(0, 4), images(0, 3)))
    with pytest.raises(UserError, match="no image metric"):
        Encoders.sorted_from("bert-base-uncased:x")


def write(folder, arrays, **names):
    folder.mkdir()
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{i:02d}.png")


def test_folders_are_read_in_parts_with_their_captions(specs, tmp_path, monkeypatch):
    from gen_jax.evaluation import image_sets

    monkeypatch.setattr(image_sets, "_AT_ONCE", 5)
    a, b = images(5, 12), images(6, 12)
    write(tmp_path / "a", a)
    write(tmp_path / "b", b)
    names = ("fd", "cmmd", "lpips", "psnr", "ssim", "clip_score")
    lines = [json.dumps({"file": f"{i:02d}.png", "caption": f"cat {i}"}) for i in range(12)]
    (tmp_path / "b" / "captions.jsonl").write_text("\n".join(lines))
    found, notes = folders.compare_folders(
        str(tmp_path / "a"), str(tmp_path / "b"), 0, names, specs
    )
    want, _ = measure(names, compared(specs, a, b, [f"cat {i}" for i in range(12)]))
    assert set(found) == set(want) | {"images_real", "images_fake"} and notes
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)
    # The overview that `generate` writes is no sample; manifests give the prompts.
    (tmp_path / "b" / "captions.jsonl").unlink()
    Image.fromarray(np.zeros((90, 90, 3), np.uint8)).save(tmp_path / "b" / "grid.png")
    for i in range(12):
        (tmp_path / "b" / f"{i:02d}.json").write_text(json.dumps({"prompt": f"cat {i}"}))
    assert len(FolderImages(str(tmp_path / "b"), 0)) == 12
    again, _ = folders.compare_folders(
        str(tmp_path / "a"), str(tmp_path / "b"), 0, ["clip_score"], specs
    )
    assert again["clip_score"] == found["clip_score"]
    (tmp_path / "b" / "03.json").unlink()
    with pytest.raises(UserError, match=r"03\.png: has no caption"):
        folders.compare_folders(str(tmp_path / "a"), str(tmp_path / "b"), 0, ["clip_score"], specs)


def test_pairs_have_one_name_whatever_their_ending_and_normal_form(tmp_path):
    pixels = Image.fromarray(np.zeros((20, 20, 3), np.uint8))
    for folder, written in (("a", ("a.ppm", "a.b.ppm", "é.gif")), ("b", ("a.png", "a.b.jpg"))):
        (tmp_path / folder).mkdir()
        for name in written:
            pixels.save(tmp_path / folder / name)
    pixels.save(tmp_path / "b" / "e\u0301.gif.png")  # as `restore` names it
    (tmp_path / "b" / "._a.png").write_bytes(b"Mac OS X")
    sets = [FolderImages(str(tmp_path / name), 0) for name in "ab"]
    assert sets[0].names == sets[1].names == ["a", "a.b", "é"]
    found = folders.compare_folders(str(tmp_path / "a"), str(tmp_path / "b"), 0, ["psnr"])
    assert found.metrics["images_fake"] == 3
    assert found.notes["images_fake"] == "left out: 1 hidden (._a.png)"


def test_images_of_several_sizes_ask_for_one(tmp_path):
    write(tmp_path / "a", [np.zeros((20, 20, 3), np.uint8), np.zeros((20, 24, 3), np.uint8)])
    with pytest.raises(UserError, match=r"24x20 pixels.*size="):
        list(FolderImages(str(tmp_path / "a"), 0).chunks())
    assert next(FolderImages(str(tmp_path / "a"), 16).chunks()).shape == (2, 16, 16, 3)


class Halved:
    """A task that gives images back with half their brightness."""

    rng_streams = ()

    def predict_fns(self):
        return {"reconstruct": lambda v, batch, r, f: {"image": batch["image"] // 2}}


class Held:
    """Held-out images as evaluators read them."""

    label_names, captions, source, folder = (), {}, "", None

    def read(self, split, count):
        return {"image": images(7, min(count, 12))}

    def records(self, split, indices):
        raise AssertionError("an autoencoder needs no texts")

    tokenize = detokenize = records


def test_evaluators_measure_what_a_model_gives_back(specs):
    predict = Predictor(Halved(), {}, {}, make_mesh({"fsdp": -1}))
    evaluator = ImageQuality(("lpips", "fd"), tuple(specs), count=12, batch_size=8)
    found = evaluator(predict, Held())
    x = images(7, 12)
    want, _ = measure(["lpips", "fd"], compared(specs, x, x // 2))
    assert dict(found.metrics) == pytest.approx(want, rel=1e-5)
    assert "fd_dinov2-small" in found.notes
    row = Reconstruction(count=12, batch_size=8, encoder=specs[3])(predict, Held()).metrics
    assert row["lpips"] == pytest.approx(want["lpips"], rel=1e-5)
    assert row["lpips_low"] < row["lpips"] < row["lpips_high"]
    with pytest.raises(UserError, match="'generate' or 'reconstruct'"):
        ImageQuality(predict_fn="encode")(predict, Held())
