"""The stage detail: what it learns and draws, and that a picture's detail is its own key's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import detail
from gen_jax.common.errors import UserError
from gen_jax.models.local_scale import LocalScale, gaussian_nll
from gen_jax.tasks import build_task
from gen_jax.tasks.detail import DetailTask
from tests.moved import moved

COUNT = 4


@functools.cache
def made(seed=0):
    """A task, its parameters (nowhere zero), frozen VQ-VAE and a batch."""
    config = detail.get_config("debug")
    vqvae = build_task(config.requires.vqvae.task.to_dict())
    task = build_task(config.task.to_dict(), {"vqvae": vqvae})
    rng = np.random.default_rng(seed)
    batch = {"image": jnp.asarray(rng.integers(0, 256, (COUNT, 16, 16, 3)), jnp.uint8)}
    params, extra = jax.jit(vqvae.init)(jax.random.key(0), batch)
    frozen = {"vqvae": vqvae.as_frozen({"params": params, "extra": extra})}
    params, _ = jax.jit(task.init)(jax.random.key(1), batch)
    return task, moved(params, 0.05, seed), frozen, batch


def rngs(task):
    return {name: jax.random.key(i) for i, name in enumerate(task.rng_streams)}


class Knowing(DetailTask):
    """One whose network knows the detail: a wave down each picture, in units of the scale."""

    def _told(self, params, x_t, y, log_std, t):
        return wave(y)


def wave(y):
    rows = jnp.sin(jnp.arange(y.shape[1], dtype=jnp.float32))
    return jnp.broadcast_to(rows[None, :, None, None], (*y.shape[:3], 1))


def knowing(task):
    return Knowing(**{f.name: getattr(task, f.name) for f in dataclasses.fields(task)})


def decoded(task, frozen, batch):
    x = batch["image"].astype(jnp.float32) / 127.5 - 1
    run = jax.jit(
        lambda x: task.vqvae.images(frozen["vqvae"], task.vqvae.codes(frozen["vqvae"], x))
    )
    return x, run(x)


def test_the_loss_is_of_the_brightness_that_is_missing():
    task, params, frozen, batch = made()
    # Whole pictures, and a scale of one number: its last convolution is silent.
    task = knowing(dataclasses.replace(task, crop=0))
    model = {**params["model"]}
    model["scale"] = {**model["scale"], "out": jax.tree.map(jnp.zeros_like, model["scale"]["out"])}
    run = jax.jit(lambda m: task._loss(m, params, {}, batch, rngs(task), frozen))
    loss, (metrics, _) = run(model)
    x, y = (np.asarray(v, np.float64) for v in decoded(task, frozen, batch))
    missing, std = (x - y) @ np.array([0.299, 0.587, 0.114]), np.exp(-2.65)
    nll = (0.5 * (missing / std) ** 2 + np.log(std)).mean()
    assert float(metrics["model/scale_nll"]) == pytest.approx(nll, rel=1e-4)
    error = (np.asarray(wave(y))[..., 0] - missing / std) ** 2
    assert float(metrics["model/mse"]) == pytest.approx(error.mean(), rel=1e-4)
    # The error of the velocity (t from 0.1 on): that of the detail over t squared.
    t = np.maximum(np.asarray(jax.random.uniform(rngs(task)["t"]) + np.arange(COUNT)) / COUNT, 0.1)
    flow = (error.mean((1, 2)) / t**2).mean()
    assert float(metrics["model/flow"]) == pytest.approx(flow, rel=1e-4)
    assert float(loss) == pytest.approx(flow + nll, rel=1e-4)


def test_the_flow_does_not_teach_the_scale():
    task, params, frozen, batch = made()

    def terms(model):
        metrics = task._loss(model, params, {}, batch, rngs(task), frozen)[1][0]
        return jnp.stack([metrics["model/flow"], metrics["model/scale_nll"]])

    slopes = jax.jit(jax.jacrev(terms))(params["model"])

    def most(part):
        """The largest gradient of the flow's loss and of the scale's."""
        return np.max([np.abs(g).reshape(2, -1).max(1) for g in jax.tree.leaves(part)], 0)

    np.testing.assert_array_equal(most(slopes["scale"]) > 0, [False, True])
    np.testing.assert_array_equal(most(slopes["network"]) > 0, [True, False])


@pytest.mark.parametrize("steps", [1, 3])
def test_what_the_network_knows_is_drawn_at_its_scale(steps):
    task, params, frozen, batch = made()
    task = knowing(dataclasses.replace(task, num_inference_steps=steps))
    own, (_, y) = task.as_frozen({"params": params}), decoded(task, frozen, batch)
    log_std = jax.jit(task.scale.apply)({"params": params["model"]["scale"]}, y)
    got = jax.jit(task.add)(own, y, jax.random.split(jax.random.key(3), COUNT))
    np.testing.assert_allclose(got, y + jnp.exp(log_std) * wave(y), atol=1e-5)


def test_detail_is_of_the_picture_and_its_key_alone_and_has_no_colour():
    task, params, frozen, batch = made()
    own, (_, y) = task.as_frozen({"params": params}), decoded(task, frozen, batch)
    keys = jax.vmap(jax.random.key)(jnp.asarray([5, 6, 7, 5], jnp.uint32))
    draw = jax.jit(lambda y, keys: task.add(own, y, keys) - y)
    whole = np.asarray(draw(y, keys))
    np.testing.assert_allclose(draw(y[1:2], keys[1:2]), whole[1:2], atol=1e-5)
    same = np.asarray(draw(y[jnp.asarray([0, 0])], keys[:2]))
    assert np.abs(same[0] - same[1]).max() > 1e-3, "the key does nothing"
    np.testing.assert_allclose(whole, whole[..., :1].repeat(3, -1), atol=1e-5)
    silent = dataclasses.replace(task, noise=0.0)
    draw = jax.jit(silent.add)
    a, b = (draw(own, y, k) for k in (keys, keys[::-1]))
    np.testing.assert_array_equal(a, b)


def test_windows_are_of_one_place_in_both():
    task, *_ = made()
    x = jnp.asarray(np.random.default_rng(0).random((COUNT, 16, 16, 3)), jnp.float32)
    a, b = task._window(x, 2.0 * x, jax.random.key(0))
    assert a.shape == (COUNT, 8, 8, 3)
    np.testing.assert_array_equal(2.0 * a, b)
    views = [np.lib.stride_tricks.sliding_window_view(np.asarray(p)[..., 0], (8, 8)) for p in x]
    found = [np.argwhere((v == np.asarray(w)[..., 0]).all((2, 3))) for v, w in zip(views, a)]
    assert all(len(f) == 1 for f in found) and len({tuple(f[0]) for f in found}) > 1


def test_the_scale_learns_local_deviations():
    rng = np.random.default_rng(0)
    y = np.zeros((8, 16, 16, 3), np.float32)
    y[:, :, 8:] = 0.5
    want = np.where(y[..., :1] > 0, 0.4, 0.05)
    y = jnp.asarray(y)
    error = jnp.asarray(want * rng.standard_normal(want.shape), jnp.float32)
    net = LocalScale(width=8, depth=1)
    params = jax.jit(net.init)(jax.random.key(0), y)

    @jax.jit
    def step(params):
        grads = jax.grad(lambda p: gaussian_nll(error, net.apply(p, y)).mean())(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)

    for _ in range(300):
        params = step(params)
    got = np.exp(np.asarray(jax.jit(net.apply)(params, y)))
    for part in (np.s_[:, 2:-2, 2:6], np.s_[:, 2:-2, 10:14]):
        assert np.abs(np.log(got[part] / want[part])).max() < 0.2


@pytest.mark.parametrize("changes,words", [
    ({"crop": 7}, "config.task.crop=7"), ({"crop": 18}, "config.task.crop=18"),
    ({"num_inference_steps": 0}, "num_inference_steps=0"),
    ({"network": {"widths": 3}}, "config.task.network: unknown key 'widths'"),
    ({"scale": {"layers": 3}}, "config.task.scale: unknown key 'layers'"),
    ({"network": None}, "config.task.network is missing"), ({"vqvae": None}, "config.frozen.vqvae"),
])  # fmt: skip
def test_wrong_values_are_named(changes, words):
    config = detail.get_config("debug")
    tasks = {"vqvae": build_task(config.requires.vqvae.task.to_dict())}
    values = config.task.to_dict()
    for key, value in changes.items():
        (tasks if key == "vqvae" else values).pop(key, None)
        if value is not None:
            values[key] = value
    with pytest.raises(UserError, match=words):
        build_task(values, tasks)
