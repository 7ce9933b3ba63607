import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.encoders.diffusers_folder import param_shapes, save_diffusers
from gen_jax.models.autoencoder_kl import AutoencoderKL
from gen_jax.models.unet_2d_condition import UNet2DConditionModel
from gen_jax.runs import reader, weights
from gen_jax.tasks import first_stage
from tests import tiny_networks


def zeros(module):
    return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), param_shapes(module))


def test_packaged_autoencoder_restores_a_photograph():
    """The weights that ship are those that the model card speaks of."""
    from gen_jax.data.prepare.sources.photos import load
    from gen_jax.metrics import psnr

    model = reader.load("package:vae_photos")
    photo = load("chelsea.png")[:256, 100:356]
    small = photo.reshape(64, 4, 64, 4, 3).mean((1, 3)).round().astype(np.uint8)[None]
    predict = model.task.predict_fns()["reconstruct"]
    out = jax.jit(lambda v, b: predict(v, b, {}, {}))(model.variables, {"image": small})["image"]
    assert float(psnr.psnr(small / 255.0, np.asarray(out) / 255.0, 1.0)[0]) > 24.0


def test_a_diffusers_autoencoder_is_a_first_stage(tmp_path):
    module = AutoencoderKL(
        **tiny_networks.TINY_VAE | {"scaling_factor": 0.36, "shift_factor": 0.11}
    )
    save_diffusers(tmp_path, module, zeros(module))
    model = reader.load(str(tmp_path))
    frozen = model.task.as_frozen(model.variables)
    z = jnp.linspace(-3, 3, 16).reshape(1, 2, 2, 4)
    np.testing.assert_allclose(first_stage.standardise(z, frozen), (z - 0.11) * 0.36, rtol=1e-5)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        reader.load(str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"no config\.json"):
        reader.load(str(tmp_path))
    unet = UNet2DConditionModel(**tiny_networks.TINY_UNET)
    save_diffusers(tmp_path, unet, zeros(unet))
    with pytest.raises(UserError, match="expected an autoencoder"):
        reader.load(str(tmp_path))


def test_weights_file_round_trip_and_damage(tmp_path):
    tree = {
        "params": {"a": {"w": np.arange(6.0, dtype=np.float32).reshape(2, 3)}},
        "n": np.int32(3),
    }
    path = tmp_path / "model.safetensors"
    weights.save(path, tree)
    back = weights.load(path)
    np.testing.assert_array_equal(back["params"]["a"]["w"], tree["params"]["a"]["w"])
    assert weights.digest(back) == weights.digest(tree) and back["params"]["a"]["w"].flags.writeable
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"model\.safetensors: .*cut short"):
        weights.load(path)


PACKAGED = ("vae_photos", "vae_pictograms", "vae_shapes")


@pytest.mark.parametrize("name", PACKAGED)
def test_report_of_a_packaged_model_is_its_card(name):
    folder = reader.resolve(f"package:{name}")
    report = json.loads((folder / "report.json").read_text())
    assert f"{report['vae/psnr']:.2f} dB" in (folder / "README.md").read_text()


def test_packaged_models_are_small_and_all_tested():
    found = {p.name for p in reader.PACKAGED.iterdir() if p.is_dir()}
    others = {"cutouts", "dino_tiny", "engravings", "restore"}  # these have their own
    assert found == {*PACKAGED, *others}
    assert sum(p.stat().st_size for p in reader.PACKAGED.rglob("*")) < 50 * 2**20


def test_packaged_autoencoder_keeps_scenes_readable():
    """Colour survives it always and shape nearly always: the ceiling of what is generated."""
    from gen_jax.data.prepare.sources import shapes

    model = reader.load("package:vae_shapes")
    source = shapes.ShapesSource(num=60)
    records = [r for r in map(source.read, range(60)) if r.attributes["kind"] == "single"]
    images = np.stack([r.pixels for r in records])
    predict = model.task.predict_fns()["reconstruct"]
    out = jax.jit(lambda v, b: predict(v, b, {}, {}))(model.variables, {"image": images})["image"]
    scores = []
    for record, image in zip(records, np.asarray(out)):
        facts = {"objects": [{k: record.attributes["objects"][0][k] for k in ("shape", "color")}]}
        scores.append(shapes.score(facts, shapes.read_scene(image)))
    assert np.mean([s["color"] for s in scores]) == 1.0
    assert np.mean([s["shape"] for s in scores]) > 0.97


def test_packaged_autoencoder_keeps_pictograms_readable():
    from gen_jax.data.prepare.sources import open_source, pictogram_read
    from gen_jax.metrics.psnr import psnr

    model = reader.load("package:vae_pictograms")
    source = open_source("pictograms", num=400)
    records = [source.read(index) for index in range(400) if index % 20 > 16]  # unseen ones
    images = np.stack([r.pixels for r in records])
    predict = model.task.predict_fns()["reconstruct"]
    out = jax.jit(lambda v, b: predict(v, b, {}, {}))(model.variables, {"image": images})["image"]
    out = np.asarray(out)
    assert np.mean(psnr(out / 255.0, images / 255.0)) > 28.5
    for record, image in zip(records, out):
        assert pictogram_read.read(image).background == record.attributes["background"]
        if color := record.attributes["color"]:
            assert pictogram_read.read_color(image, record.label_name) == color
