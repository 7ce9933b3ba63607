"""The VQ-VAE stage: the codebook on one and on eight devices, what it learns, what it refuses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vqvae
from gen_jax.common.errors import UserError
from gen_jax.parallel import sharding
from gen_jax.parallel.mesh import make_mesh
from gen_jax.tasks import build_task
from gen_jax.tasks.perceptual import PerceptualTerm
from gen_jax.training import optim, rngs, warm_start
from gen_jax.training import state as state_lib
from gen_jax.training.step import make_train_step

BATCH = 16


def made(arg="debug", **quantizer):
    config = vqvae.get_config(arg).unlock()
    config.task.quantizer.update(quantizer)
    return build_task(config.task.to_dict())


def batch(step):
    """Pictures of few colours, so that there is something to learn."""
    rng = np.random.default_rng(step)
    low = rng.choice(4, (BATCH, 4, 4))
    colours = np.array([[20, 20, 60], [200, 40, 40], [240, 240, 200], [40, 160, 90]], np.uint8)
    return {"image": colours[low].repeat(4, 1).repeat(4, 2)}


def stepper(devices, task):
    """Returns the mesh of the first `devices`, the state's shardings there, and the train step."""
    mesh = make_mesh({"fsdp": devices}, jax.devices()[:devices])
    optimizers = {
        "model": optim.make_optimizer(
            {"learning_rate": 1e-3, "schedule": "constant", "warmup_steps": 0, "b2": 0.999}, 10
        )
    }
    state = state_lib.abstract_state(task, optimizers, (), mesh, ((".*", "fsdp"),))
    where = jax.tree.map(lambda x: x.sharding, state)
    step = make_train_step(task, optimizers)
    return mesh, where, jax.jit(step, out_shardings=(where, None))


@functools.cache
def start(task):
    """Returns the state of step 0, on one device."""
    mesh = make_mesh({"fsdp": 1}, jax.devices()[:1])
    optimizers = {
        "model": optim.make_optimizer({"learning_rate": 1e-3, "warmup_steps": 0, "b2": 0.999}, 10)
    }
    return state_lib.create_state(task, optimizers, (), mesh, ((".*", "fsdp"),), seed=0)


@functools.cache
def trained(steps, task):
    mesh, _, step = stepper(1, task)
    state, metrics = start(task), []
    for i in range(steps):
        rows = jax.device_put(batch(i), sharding.batch_sharding(mesh))
        state, m = step(state, rows, {}, rngs.root_key(0))
        metrics.append(jax.device_get(m))
    return jax.device_get(state), metrics


def least_margin(task, state, rows):
    """Returns how close a batch comes to a tie between two codes, relative to the latents' square.

    Computed in float64, level by level.
    """
    x = jnp.asarray(rows["image"], jnp.float32) / 127.5 - 1
    encode = functools.partial(task.autoencoder.apply, method="encode")
    z = np.asarray(jax.jit(encode)({"params": state.params["model"]}, x), np.float64)
    residual = z.reshape(-1, z.shape[-1])
    if task.quantizer.cosine:
        residual = residual / np.linalg.norm(residual, axis=-1, keepdims=True)
    margins = []
    for codes in np.asarray(state.extra["codebook"]["codes"], np.float64):
        distance = ((residual[:, None] - codes[None]) ** 2).sum(-1)
        first, second = np.sort(distance, -1)[:, :2].T
        margins.append((second - first).min() / (residual**2).sum(-1).mean())
        residual = residual - codes[distance.argmin(-1)]
    return min(margins)


def test_a_step_on_eight_devices_is_that_on_one():
    """From one state, wherever no latent is as near to a second code.

    Two whole runs agree until the first tie only: gradients that are summed in another order move
    latents by their last bit, and the nearest code is a hard choice (CPUs differ in which step).
    """
    task = made("debug,quantizer=residual", restart_below=0.6, decay=0.8)
    (one, _, step_one), (eight, where, step_eight) = stepper(1, task), stepper(8, task)
    state = start(task)
    compared, restarted = 0, 0
    for i in range(16):
        before, rows = jax.device_get(state), batch(i)
        on_one = jax.device_put(rows, sharding.batch_sharding(one))
        state, m1 = step_one(state, on_one, {}, rngs.root_key(0))
        # The codebook of step 0 comes from k-means, whose own test is in test_quantizers.py.
        if i == 0 or least_margin(task, before, rows) < 1e-5:
            continue
        on_eight = jax.device_put(rows, sharding.batch_sharding(eight))
        got, m8 = step_eight(jax.device_put(before, where), on_eight, {}, rngs.root_key(0))
        assert float(m1["model/restarted"]) == float(m8["model/restarted"])
        np.testing.assert_allclose(float(m1["model/loss"]), float(m8["model/loss"]), rtol=1e-5)
        for a, b in zip(jax.tree.leaves(state.extra), jax.tree.leaves(got.extra)):
            a, b = np.asarray(a), np.asarray(b)
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, np.abs(a).max()))
        compared, restarted = compared + 1, restarted + float(m1["model/restarted"])
    assert compared >= 9, "nearly every step has a tie"
    assert restarted > 2, "nothing was restarted"


@pytest.mark.parametrize("arg", ["debug", "debug,quantizer=fsq,codes=256"])
def test_it_learns_a_small_world(arg):
    _, metrics = trained(120, made(arg))
    assert metrics[-1]["model/psnr"] > metrics[0]["model/psnr"] + 3.0
    assert metrics[-1]["model/perplexity"] > 3.0
    assert all(m["nonfinite"] == 0 for m in metrics)


def test_predictions_go_through_codes_alone():
    task = made()
    state, _ = trained(2, task)
    variables = jax.tree.map(jnp.asarray, {"params": state.params, "extra": state.extra})
    fns = {name: jax.jit(fn) for name, fn in task.predict_fns().items()}
    rows = {"image": jnp.asarray(batch(0)["image"])}
    whole = fns["reconstruct"](variables, rows, {}, {})
    codes = fns["encode"](variables, rows, {}, {})["codes"]
    assert codes.shape == (BATCH, *task.grid) and codes.dtype == jnp.int32
    np.testing.assert_array_equal(whole["codes"], codes)
    parts = fns["decode"](variables, {"codes": codes}, {}, {})
    np.testing.assert_array_equal(parts["image"], whole["image"])


@pytest.mark.parametrize("change,words", [
    (lambda c: c.task.quantizer.update(name="none"), "quantizer.name"),
    (lambda c: c.task.update(image_size=18), "not divisible by 4"),
    (lambda c: c.task.autoencoder.update(patch_size=3), "not divisible by 6"),
    (lambda c: c.task.update(perceptual_crop=17), "perceptual_crop=17"),
    (lambda c: c.task.__delattr__("quantizer"), "quantizer is missing"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(change, words):
    config = vqvae.get_config("debug").unlock()
    change(config)
    with pytest.raises(UserError, match=words):
        build_task(config.task.to_dict())


@pytest.mark.parametrize("arg,words", [
    ("size=huge", "size=huge"), ("quantizer=rq", "quantizer=rq"),
    ("quantizer=fsq,codes=300", "codes=300"),
])  # fmt: skip
def test_wrong_arguments_are_refused(arg, words):
    with pytest.raises(UserError, match=words):
        vqvae.get_config(arg)


def test_a_head_is_the_identity_until_it_is_trained():
    task = made()
    x = jnp.asarray(batch(0)["image"], jnp.float32) / 127.5 - 1
    params = jax.jit(task.autoencoder.init)(jax.random.key(0), x)["params"]
    without = {k: v for k, v in params.items() if not k.startswith("head_")}
    assert set(params) - set(without) == {"head_in", "head_out"}
    whole, plain = (
        jax.jit(m.apply) for m in (task.autoencoder, task.autoencoder.clone(head_channels=0))
    )
    image = plain({"params": without}, x)
    np.testing.assert_array_equal(whole({"params": params}, x), image)
    params["head_out"]["kernel"] = 0.1 + params["head_out"]["kernel"]
    moved = whole({"params": params}, x) - image
    assert float(jnp.abs(moved).min(-1).max()) > 1e-3


def test_the_perceptual_term_sees_a_window_that_moves():
    seen = []

    class Spy(PerceptualTerm):
        def __call__(self, x, y, frozen):
            seen.append((np.asarray(x), np.asarray(y)))
            return jnp.abs(x - y).mean((1, 2, 3))

    task = dataclasses.replace(made(), perceptual=Spy("spy"), perceptual_crop=8)
    x = jnp.asarray(batch(0)["image"], jnp.float32) / 127.5 - 1
    x = x + jnp.arange(256.0).reshape(1, 16, 16, 1) / 256  # no two windows are alike
    for key in range(6):
        task.terms(x, -x, {}, 0, {}, jax.random.key(key))
    corners = set()
    for a, b in seen:
        assert a.shape == (BATCH, 8, 8, 3)
        np.testing.assert_array_equal(a, -b)
        places = [
            (i, j) for i in range(9) for j in range(9)
            if (np.asarray(x)[:, i : i + 8, j : j + 8] == a).all()
        ]  # fmt: skip
        assert len(places) == 1
        corners.add(places[0])
    assert len(corners) > 2


def test_the_decoder_alone_is_trained_on():
    """From a trained run, codebook and all: afterwards codes are the same and pictures nearer."""
    before, _ = trained(50, made())
    config = vqvae.get_config("debug,decoder_of=runs/a").unlock()
    assert config.init_from == "runs/a"
    config.task.perceptual_weight = 0.0
    task = build_task(config.task.to_dict())
    values = {
        **config.optimizer.model.to_dict(),
        "learning_rate": 1e-3,
        "schedule": "constant",
        "warmup_steps": 0,
        "b2": 0.999,
    }
    optimizers = {"model": optim.make_optimizer(values, 40)}
    mesh = make_mesh({"fsdp": 1}, jax.devices()[:1])
    state = state_lib.create_state(task, optimizers, (), mesh, ((".*", "fsdp"),), seed=1)
    given = {"params": before.params, "extra": before.extra}
    state, text = warm_start.take(state, given, "runs/a", task.inherited)
    assert "new are" not in text
    step = jax.jit(make_train_step(task, optimizers))
    losses = []
    for i in range(40):
        rows = jax.device_put(batch(i), sharding.batch_sharding(mesh))
        state, m = step(state, rows, {}, rngs.root_key(0))
        losses.append(float(m["model/loss"]))
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    for name, old in before.params["model"].items():
        new = jax.device_get(state.params["model"][name])
        kept = name.startswith(("patch_in", "encoder_", "downs_"))
        same = jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), old, new))
        assert same == kept, name
    old, new = before.extra["codebook"], jax.device_get(state.extra["codebook"])
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), old, new))


def test_another_number_of_codes_begins_a_codebook_of_its_own():
    before, _ = trained(2, made())
    task = made(num_codes=16)
    optimizers = {
        "model": optim.make_optimizer({"learning_rate": 1e-3, "warmup_steps": 0, "b2": 0.999}, 10)
    }
    mesh = make_mesh({"fsdp": 1}, jax.devices()[:1])
    state = state_lib.create_state(task, optimizers, (), mesh, ((".*", "fsdp"),), seed=1)
    given = {"params": before.params, "extra": before.extra}
    fresh = jax.device_get(state.extra["codebook"])
    state, text = warm_start.take(state, given, "runs/a", task.inherited)
    assert text.endswith("new are codebook")
    np.testing.assert_array_equal(state.extra["codebook"]["codes"], fresh["codes"])
    alone = dataclasses.replace(task, freeze_codes=True)
    with pytest.raises(UserError, match="init_from=runs/a: its codebook does not fit"):
        warm_start.take(state, given, "runs/a", alone.inherited, alone.required)
