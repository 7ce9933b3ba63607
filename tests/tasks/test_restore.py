import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import restore
from gen_jax.common.errors import UserError
from gen_jax.data.degradations import PARAMETERS
from gen_jax.losses.frequency import frequency_l1
from gen_jax.tasks import build_task
from gen_jax.tasks.restore import degradation_of
from tests.tasks.test_contract import filled


def debug_task(arg="debug,variant=dncnn", **changes):
    return build_task(restore.get_config(arg).task.to_dict() | changes)


def batch(task, count=4):
    rng = np.random.default_rng(0)
    spec = task.batch_spec()
    clean = rng.integers(0, 256, (count, *spec["image"].shape)).astype(np.uint8)
    noise = rng.normal(size=clean.shape) * 0.1
    return {
        "image": jnp.asarray(clean),
        "degraded": jnp.float32(clean / 255.0 + noise),
        "degradation": jnp.float32(rng.random((count, len(PARAMETERS)))),
    }


def test_every_weight_adds_its_term():
    weights = {f"{k}_weight": 0.5 for k in ("l1", "l2", "charbonnier", "ssim", "frequency")}
    changes = {"perceptual": "multiscale_gradient", "perceptual_weight": 0.5}
    task = debug_task(**weights, **changes)
    params, extra = filled(task)
    run = jax.jit(lambda p, b: task._loss(p, p, extra, b, {"dropout": jax.random.key(0)}, {}))
    loss, (metrics, _) = run(params["model"], batch(task))
    names = ("l1", "l2", "charbonnier", "ssim", "frequency", "perceptual")
    assert all(float(metrics[f"model/{n}"]) > 0 for n in names)
    np.testing.assert_allclose(loss, sum(0.5 * metrics[f"model/{n}"] for n in names), rtol=1e-5)


def test_a_network_that_gives_its_input_back_has_the_noise_as_error():
    task = debug_task()
    params, extra = filled(task)
    model = jax.tree.map(jnp.zeros_like, params["model"])  # no residual
    data = batch(task)
    loss, _ = task._loss(model, model, extra, data, {}, {})
    difference = data["degraded"] - data["image"] / 255.0
    np.testing.assert_allclose(loss, np.abs(difference).mean(), rtol=1e-5)
    restored = task.predict_fns()["restore"]({"params": {"model": model}}, data, {}, {})
    np.testing.assert_allclose(restored["restored"], data["degraded"])


def test_ffdnet_is_told_the_noise_of_each_picture():
    network = dict(name="ffdnet", depth=2, width=4, channels=3)
    task = debug_task(network=network)
    params, _ = filled(task)
    data = batch(task)
    restored = task._restore({"params": params}, data, {}, {})["restored"]
    louder = data | {"degradation": data["degradation"].at[1, PARAMETERS.index("sigma")].add(1.0)}
    other = task._restore({"params": params}, louder, {}, {})["restored"]
    changed = np.abs(np.asarray(other - restored)).max((1, 2, 3)) > 1e-7
    np.testing.assert_array_equal(changed, [False, True, False, False])
    sigma = degradation_of(jnp.full((2, len(PARAMETERS)), 1 / 3, jnp.float32), "sigma")
    np.testing.assert_allclose(sigma, 25.0, rtol=1e-6)


def test_the_published_recipes_are_of_published_size():
    for arg, count in (("variant=scunet", 17_947_008), ("variant=dncnn,gray", 555_137)):
        task = build_task(restore.get_config(arg).task.to_dict())
        small = dataclasses.replace(task, image_size=64)
        spec = {k: jnp.zeros((1, *v.shape), v.dtype) for k, v in small.batch_spec().items()}
        params, _ = jax.eval_shape(small.init, jax.random.key(0), spec)
        assert sum(x.size for x in jax.tree.leaves(params)) == pytest.approx(count, rel=0.002), arg


def test_spectra_weigh_all_frequencies_alike():
    rng = np.random.default_rng(0)
    x, y = (jnp.float32(rng.normal(size=(3, 8, 6, 2))) for _ in range(2))
    spectrum = np.fft.rfft2(np.float64(x - y), axes=(1, 2), norm="ortho")
    want = (np.abs(spectrum.real) + np.abs(spectrum.imag)).mean((1, 2, 3)) / 2
    np.testing.assert_allclose(frequency_l1(x, y), want, rtol=1e-5)


@pytest.mark.parametrize(
    "changes,word",
    [
        ({"l1_weight": 0.0}, "every weight of a pixel error is 0"),
        ({"network": {"name": "dcnn"}}, "'dcnn'"),
        ({"network": {"name": "dncnn", "deep": 3}}, "deep"),
        ({"l3_weight": 1.0}, "l3_weight"),
        ({"perceptual": "lpips", "perceptual_weight": 1.0}, "perceptual_encoder"),
    ],
)
def test_mistakes_are_named(changes, word):
    with pytest.raises(UserError, match=word):
        debug_task(**changes)
