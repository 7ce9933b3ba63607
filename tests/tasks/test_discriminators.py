"""Which way a discriminator and its generator are taught, in every stage that has one."""

import dataclasses
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import restore, vae, vqvae
from gen_jax.models.dncnn import DnCNN
from gen_jax.models.patch_discriminator import PatchDiscriminator
from gen_jax.models.restoration import RestorationOutput
from gen_jax.models.vqvae import VQVAE
from gen_jax.tasks import build_task
from gen_jax.tasks.objectives.adversarial import Adversarial

REAL, FAKE = 1.0, -0.5  # brightness of all real images and of all that are made


class Brightness(nn.Module):
    """Logits are each image's mean times a learned gain."""

    @nn.compact
    def __call__(self, x):
        gain = self.param("gain", nn.initializers.zeros, ())
        return gain * x.mean((1, 2, 3), keepdims=True)


class Dark(nn.Module):
    """An autoencoder that gives every image back dark."""

    def __call__(self, x, rng):
        latent = jnp.zeros((len(x), 4, 4, 4))
        return jnp.full_like(x, FAKE), latent, latent


class DarkCodes(VQVAE):
    """A VQ-VAE that gives every image back dark."""

    def apply(self, variables, x, *text, method):
        if method == "encode":
            return jnp.zeros((len(x), 4, 4, self.dim))
        return jnp.full((len(x), 16, 16, 3), FAKE)


class DarkRestorer(DnCNN):
    """A restorer that gives every image back dark."""

    def apply(self, variables, x, *_, **__):
        return RestorationOutput(jnp.full_like(x, (FAKE + 1) / 2))


def vae_task():
    task = build_task(vae.get_config("debug").task.to_dict())
    return dataclasses.replace(task, discriminator=Brightness(), autoencoder=Dark())


def vqvae_task():
    task = build_task(vqvae.get_config("debug").task.to_dict())
    fields = {f.name: getattr(task.autoencoder, f.name) for f in dataclasses.fields(VQVAE)}
    dark = DarkCodes(**{k: v for k, v in fields.items() if k not in ("parent", "name")})
    return dataclasses.replace(task, discriminator=Brightness(), autoencoder=dark)


def restore_task():
    task = build_task(restore.get_config("debug,variant=dncnn,adversarial").task.to_dict())
    return dataclasses.replace(task, discriminator=Brightness(), network=DarkRestorer())


@pytest.mark.parametrize("make", [vae_task, vqvae_task, restore_task])
def test_real_images_go_up_and_made_ones_down(make):
    task = make()
    batch = {
        "image": jnp.full((2, 16, 16, 3), 255, jnp.uint8),
        "degraded": jnp.zeros((2, 16, 16, 3)),
    }
    extra = {"updates": jnp.int32(10**6), "latent_mean": jnp.zeros(4), "latent_var": jnp.ones(4)}
    if hasattr(task, "quantizer"):
        extra["codebook"] = task.quantizer.init(jax.random.key(0))
    keys = {name: jax.random.key(0) for name in task.rng_streams}

    @jax.jit
    def run():
        def disc(gain):
            everything = {"model": {"network": {}}, "disc": {"gain": gain}}
            loss_fn = task.losses()["disc"]
            return loss_fn(everything["disc"], everything, extra, batch, keys, {})[0]

        everything = {"model": {"network": {}}, "disc": {"gain": jnp.float32(2.0)}}
        model = task.losses()["model"]
        _, (metrics, _) = model(everything["model"], everything, extra, batch, keys, {})
        return disc(jnp.float32(0.5)), jax.grad(disc)(jnp.zeros(())), metrics["model/adversarial"]

    loss, slope, of_model = run()
    # Half the hinge losses: relu(1 - gain * real) + relu(1 + gain * made).
    np.testing.assert_allclose(loss, 0.5 * (0.5 + 0.75), rtol=1e-5)
    np.testing.assert_allclose(slope, 0.5 * (FAKE - REAL), rtol=1e-5)
    # What is made is to look real: the lower its logits, the higher the loss.
    np.testing.assert_allclose(of_model, -2.0 * FAKE, rtol=1e-5)


def test_faces_are_told_from_real_ones_and_the_penalty_is_that_of_r1():
    rng = np.random.default_rng(0)
    real, made = (jnp.asarray(rng.normal(size=(4, 8, 8, 1)), jnp.float32) for _ in range(2))
    objective = Adversarial(channels=8, num_layers=2, r1_weight=0.0, range_weight=0.0)
    module = PatchDiscriminator(8, 2)
    keys = {"z": jax.random.key(0), "noise": jax.random.key(1)}

    def scene(disc, shift):
        return types.SimpleNamespace(
            real=real,
            batch={},
            z_dim=2,
            rngs=keys,
            everything={"disc": disc, "model": {"shift": shift}},
            make=lambda params, z, key, prompts=None: made + params["shift"],
        )

    @jax.jit
    def run(disc):
        shift = jnp.zeros_like(made)

        def teach(disc, objective=objective):
            return objective.loss_of_group("disc", scene(disc, shift), disc)

        def make(shift):
            loss, metrics, _ = objective.loss(scene(disc, shift), {"shift": shift})
            return loss, metrics

        (plain, before), slope = jax.value_and_grad(teach, has_aux=True)(disc)
        _, after = teach(jax.tree.map(lambda p, g: p - 0.01 * g, disc, slope))
        (_, first), to_shift = jax.value_and_grad(make, has_aux=True)(shift)
        _, second = make(shift - to_shift)
        penalized = teach(disc, dataclasses.replace(objective, r1_weight=2.0))[0]
        slopes = jax.grad(lambda x: module.apply({"params": disc}, x).sum())(real)
        return plain, before, after, first, second, penalized, slopes

    disc = jax.jit(module.init)(jax.random.key(2), real)["params"]
    plain, before, after, first, second, penalized, slopes = run(disc)
    gap, wider = (float(m["real"] - m["fake"]) for m in (before, after))
    assert wider > gap + 1e-3
    assert float(second["fake"]) > float(first["fake"]) + 1e-3
    patches = np.prod(jax.eval_shape(module.apply, {"params": disc}, real).shape[1:])
    r1 = 0.5 * (np.asarray(slopes) ** 2).sum((1, 2, 3)).mean() / patches**2
    assert r1 > 1e-4
    np.testing.assert_allclose(penalized - plain, 2.0 * r1, rtol=1e-3)
