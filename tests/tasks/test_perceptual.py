"""LPIPS as a stage's perceptual term: its weights travel as `frozen`, and only the model learns."""

import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import faces, vae
from gen_jax import encoders
from gen_jax.common.errors import UserError
from gen_jax.runs import reader
from gen_jax.tasks import build_task
from gen_jax.tasks.perceptual import make_term
from gen_jax.training import stage
from tests import tiny_towers
from tests.tasks import test_faces
from tests.tasks.test_contract import filled


@pytest.fixture
def tiny_lpips(monkeypatch, tmp_path):
    return tiny_towers.distance(tmp_path, monkeypatch)


def debug_task(side=16, **changes):
    config = vae.get_config("debug").task.to_dict()
    return build_task(config | {"image_size": side, "perceptual_weight": 1.0} | changes)


def test_the_term_is_lpips_of_the_reconstruction(tiny_lpips):
    task = debug_task(perceptual="lpips", perceptual_encoder=tiny_lpips)
    module, params = encoders.load(*encoders.parse(tiny_lpips))
    x, y = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (2, 2, 16, 16, 3)), jnp.float32)
    got = jax.jit(task.perceptual.__call__)(x, y, {"perceptual": params})
    want = jax.jit(module.apply)({"params": params}, x, y)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert (np.asarray(got) > 0).all()


def test_the_trainer_loads_the_tower_and_names_its_digest(tiny_lpips):
    task = debug_task(perceptual="lpips", perceptual_encoder=tiny_lpips)
    trees, digests = stage._with_encoders(task, reader.FrozenModels({}))
    assert set(trees) == {"perceptual"} and len(digests["perceptual"]) == 64
    assert "lin0" in trees["perceptual"] and "net" in trees["perceptual"]
    # Neither a term that needs no weights nor one of no weight loads anything.
    assert stage._with_encoders(debug_task(), reader.FrozenModels({})) == ({}, {})
    off = debug_task(perceptual="lpips", perceptual_encoder="lpips-vgg", perceptual_weight=0.0)
    assert stage._with_encoders(off, reader.FrozenModels({})) == ({}, {})


@pytest.mark.parametrize("objective", ["paired", "imle"])
def test_faces_made_for_a_real_one_are_compared_with_it(tiny_lpips, objective):
    config = faces.get_config(f"debug,gray,objective={objective}").task.to_dict()
    plain = build_task(config)
    config |= dict(perceptual_encoder=tiny_lpips, perceptual_weight=0.5)
    task = build_task(config)
    params, extra = filled(task)
    trees, _ = stage._with_encoders(task, reader.FrozenModels({}))
    assert set(trees) == {"features", "perceptual"}
    batch, keys = test_faces.batch_of(task), test_faces.keys(task)

    def run(task):
        loss = task.losses()["model"]
        run = jax.jit(jax.value_and_grad(loss, has_aux=True))
        return run(params["model"], params, extra, batch, keys, trees)

    (with_it, (metrics, _)), grads = run(task)
    (without, _), others = run(plain)
    assert metrics["model/perceptual"] > 0
    np.testing.assert_allclose(with_it - without, metrics["model/perceptual"], rtol=1e-3)
    one, other = (np.asarray(g["generator"]["block_16"]["rgb"]["kernel"]) for g in (grads, others))
    assert np.isfinite(one).all() and np.abs(one - other).max() > 1e-6


def test_the_full_size_says_which_weights_it_lacks(tmp_path):
    config = vae.get_config("variant=sd")
    assert config.task.perceptual == "lpips"
    with pytest.raises(UserError, match=r"lpips-vgg:TOWER\.safetensors,HEADS.*docs/encoders"):
        stage.run(config, tmp_path)
    assert not list(tmp_path.iterdir())  # so that the corrected command may use the folder


@pytest.mark.parametrize(
    "name,encoder,word",
    [
        ("lpips", "lpips-resnet", "lpips-resnet"),
        ("lpips", "dinov2-small", "lpips-vgg"),
        ("lpips", "", "perceptual_encoder"),
        ("ssim", "", "multiscale_gradient"),
    ],
)
def test_mistakes_are_named(name, encoder, word):
    with pytest.raises(UserError, match=word):
        make_term(name, encoder)


@pytest.mark.slow
def test_real_weights_teach_the_decoder_and_stay_out_of_the_checkpoint(shared, tmp_path):
    """The shift-tolerant LPIPS as the only loss: its slope reaches the decoder, and not itself."""
    with zipfile.ZipFile(shared / "weights_small.zip") as archive:
        file = archive.extract("stlpips_alex_backbone.safetensors", tmp_path)
    config = vae.get_config("debug")
    config.task.update(
        image_size=32, perceptual="lpips", perceptual_encoder=f"lpips-st-alex:{file}"
    )
    config.task.update(perceptual_weight=1.0, l1_weight=0.0, l2_weight=0.0, kl_weight=0.0)
    config.data.update(image_size=32)
    config.training.update(num_steps=30, batch_size=8, log_every=5, eval_every=0, ema=0.0)
    config.optimizer.model.update(learning_rate=1e-2)
    with config.unlocked():
        config.evaluators = {}
    task = build_task(config.task.to_dict())
    trees, digests = stage._with_encoders(task, reader.FrozenModels({}))
    params, extra = filled(task)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)), jnp.uint8)
    keys = {name: jax.random.key(0) for name in task.rng_streams}
    arguments = (params, extra, {"image": image}, keys, trees)
    grads = jax.jit(lambda p, *a: jax.grad(lambda p: task.losses()["model"](p, *a)[0])(p))(
        params["model"], *arguments
    )
    decoder = {k: v for k, v in grads.items() if k.startswith(("decoder", "patch_out"))}
    assert decoder
    for leaf in jax.tree.leaves(decoder):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0

    stage.run(config, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["frozen_weights_sha256"] == digests
    lines = [json.loads(v) for v in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    terms = [line["model/perceptual"] for line in lines if "model/perceptual" in line]
    print(f"LPIPS {terms[0]:.3f} -> {terms[-1]:.3f}")
    assert terms[-1] < 0.8 * terms[0]
    checkpoint = tmp_path / "run" / "checkpoints" / "30"
    stored = sum(f.stat().st_size for f in checkpoint.rglob("*") if f.is_file())
    assert 0 < stored < 2_470_848 * 4 / 4, "the tower is in the checkpoint"
