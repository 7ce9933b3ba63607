import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vae
from gen_jax.common import pixels
from gen_jax.common.errors import UserError
from gen_jax.tasks import build_task, first_stage
from tests.tasks.test_contract import filled


def debug_task(**changes):
    config = vae.get_config("debug").task.to_dict()
    return build_task(config | changes)


def test_latent_statistics_are_those_of_the_data():
    """Over a constant stream the running statistics equal the batch's own."""
    task = debug_task()
    params, extra = filled(task)
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.integers(0, 256, (8, 16, 16, 3)).astype(np.uint8))
    loss = jax.jit(task.losses()["model"])
    keys = {name: jax.random.key(0) for name in ("latent", "window")}
    for _ in range(5):
        _, (_, extra) = loss(params["model"], params, extra, {"image": image}, keys, {})
    x = pixels.to_signed(image)
    encode = jax.jit(functools.partial(task.autoencoder.apply, method="encode"))
    mean, logvar = encode({"params": params["model"]}, x)
    np.testing.assert_allclose(extra["latent_mean"], mean.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)
    want = mean.var((0, 1, 2)) + jnp.exp(logvar).mean((0, 1, 2))
    np.testing.assert_allclose(extra["latent_var"], want, rtol=1e-3)
    frozen = task.as_frozen({"params": params, "extra": extra})
    draw = jax.jit(functools.partial(first_stage.encode, task.autoencoder))
    z = draw(frozen, x, jax.random.key(1))
    np.testing.assert_allclose(np.asarray(z).std((0, 1, 2)), 1.0, atol=0.15)


def test_discriminator_is_a_second_group_and_sets_in_late():
    task = debug_task(
        discriminator={"name": "patch", "channels": 8, "num_layers": 2},
        adversarial_weight=0.5,
        adversarial_start=3,
    )
    assert list(task.losses()) == ["model", "disc"]
    params, extra = filled(task)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)), jnp.uint8)
    keys = {name: jax.random.key(0) for name in ("latent", "window")}
    model = jax.jit(task.losses()["model"])
    early, (m, _) = model(params["model"], params, extra, {"image": image}, keys, {})
    late, _ = model(
        params["model"], params, extra | {"updates": jnp.int32(3)}, {"image": image}, keys, {}
    )
    np.testing.assert_allclose(late - early, 0.5 * m["model/adversarial"], rtol=1e-4)
    disc = task.losses()["disc"]
    grads = jax.grad(lambda p: disc(p, params, extra, {"image": image}, keys, {})[0])(
        params["disc"]
    )
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads)) > 0


def test_the_weight_of_the_kl_term_rises():
    task = debug_task(kl_weight=2.0, kl_warmup=4)
    params, extra = filled(task)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)), jnp.uint8)
    keys = {name: jax.random.key(0) for name in ("latent", "window")}

    def loss(updates):
        now = extra | {"updates": jnp.int32(updates)}
        return task.losses()["model"](params["model"], params, now, {"image": image}, keys, {})

    start, (metrics, _) = loss(0)
    for updates, share in ((1, 0.25), (3, 0.75), (4, 1.0), (9, 1.0)):
        np.testing.assert_allclose(
            loss(updates)[0] - start, 2.0 * share * metrics["model/kl"], rtol=1e-4
        )


@pytest.mark.parametrize(
    "changes,word",
    [
        ({"kl_wight": 1.0}, "kl_wight"),
        ({"autoencoder": {"name": "vq"}}, "'vq'"),
        ({"autoencoder": {"name": "patch", "depth": 3}}, "depth"),
        ({"discriminator": {"name": "stylegan"}}, "stylegan"),
        ({"perceptual_weight": 1.0, "perceptual": "lpips"}, "lpips-vgg"),
    ],
)
def test_mistakes_are_named(changes, word):
    with pytest.raises(UserError, match=word):
        debug_task(**changes)


def test_tasks_hold_no_arrays():
    task = debug_task()
    assert hash(task) == hash(debug_task())
    assert dataclasses.replace(task, l1_weight=2.0) != task
