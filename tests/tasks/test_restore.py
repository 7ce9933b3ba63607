import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import restore, restore_text
from gen_jax.common.errors import UserError
from gen_jax.data.degradations import PARAMETERS
from gen_jax.data.degradations.base import SCALES
from gen_jax.encoders import catalog
from gen_jax.losses.frequency import frequency_l1
from gen_jax.models.degradation_estimator import DegradationEstimator
from gen_jax.models.dncnn import DnCNN
from gen_jax.models.restoration import RestorationOutput
from gen_jax.models.scunet import SCUNet
from gen_jax.models.swin_unet import SwinUNet
from gen_jax.tasks import build_task
from gen_jax.tasks.restore import degradation_of
from gen_jax.tasks.text import FrozenText
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


def test_the_perceptual_term_looks_at_the_images_that_it_is_for():
    changes = {"perceptual": "multiscale_gradient", "perceptual_weight": 1.0, "l1_weight": 1.0}
    found = {}
    sigma = jnp.zeros((4, len(PARAMETERS))).at[::2, PARAMETERS.index("sigma")].set(10 / 75)
    sigma = sigma.at[2].set(0.0).at[2, PARAMETERS.index("shot")].set(10 / 30)
    for name, more in {
        "all": {},
        "half": {"perceptual_every": 2},
        "clean": {"perceptual_ranges": {"sigma": (0, 2), "shot": (0, 2)}},
        "both": {"perceptual_ranges": {"sigma": (0, 2), "shot": (0, 2)}, "perceptual_every": 2},
        "louder": {"perceptual_ranges": {"sigma": (0, 11), "shot": (0, 11)}},
    }.items():
        task = debug_task(**changes, **more)
        params, extra = filled(task)
        data = batch(task) | {"degradation": sigma}
        loss = jax.jit(lambda p, b, task=task, extra=extra: task._loss(p, p, extra, b, {}, {}))
        single = {str(i): slice(i, i + 1) for i in range(4)} if name in ("all", "clean") else {}
        for key, rows in {"": slice(None), **single}.items():
            _, (metrics, _) = loss(params["model"], {k: v[rows] for k, v in data.items()})
            found[name + key] = float(metrics["model/perceptual"])
    quiet = found["all1"] + found["all3"]
    assert found["both"] == pytest.approx(quiet / 2, rel=1e-4)
    assert found["half"] == pytest.approx((found["all0"] + found["all1"]) / 2, rel=1e-4)
    assert found["clean"] == pytest.approx(quiet / 4, rel=1e-4)
    assert found["clean2"] == 0.0 and found["louder"] == pytest.approx(found["all"], rel=1e-4)
    with pytest.raises(UserError, match="perceptual_every=0"):
        debug_task(perceptual_every=0)
    with pytest.raises(UserError, match="'noise' is none of sigma"):
        debug_task(perceptual_ranges={"noise": (0, 1)})
    with pytest.raises(UserError, match="expected the least and the most"):
        debug_task(perceptual_ranges={"sigma": (0, 1, 2)})


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
    # Whose numbers of parameters tests/models compares with the papers' code.
    free = {"dtype": jnp.float32, "remat": False}
    for arg, published in (
        ("variant=scunet", SCUNet(drop_path_rate=0.1)), ("variant=dncnn,gray", DnCNN())
    ):  # fmt: skip
        network = build_task(restore.get_config(arg).task.to_dict()).network
        known = {k: v for k, v in free.items() if hasattr(network, k)}
        assert network.clone(**known) == published, arg


def test_spectra_weigh_all_frequencies_alike():
    rng = np.random.default_rng(0)
    x, y = (jnp.float32(rng.normal(size=(3, 8, 6, 2))) for _ in range(2))
    spectrum = np.fft.rfft2(np.float64(x - y), axes=(1, 2), norm="ortho")
    want = (np.abs(spectrum.real) + np.abs(spectrum.imag)).mean((1, 2, 3)) / 2
    np.testing.assert_allclose(frequency_l1(x, y), want, rtol=1e-5)


def text_task(**changes):
    config = restore_text.get_config("debug").task.to_dict()
    config["network"] |= changes
    return build_task(config)


class Plain(SwinUNet):
    """Adds to images the first strength that it is given, and has the gates of its parameters."""

    def apply(self, variables, x, conditions, **_):
        strengths = conditions["degradation"]
        y = x + strengths[:, :1, None, None] * variables["params"]["gain"]
        return RestorationOutput(y, variables["params"]["gates"])


class Constant(DegradationEstimator):
    """Estimates what its parameters say, whatever it sees."""

    def apply(self, variables, x):
        return jnp.broadcast_to(variables["params"]["strengths"], (len(x), self.outputs))


def plain_task(**changes):
    changes = {"network": Plain(), "estimator": Constant(len(PARAMETERS)), **changes}
    return dataclasses.replace(text_task(), text_encoder=None, **changes)


def plain_params(gates, estimate=0.5):
    strengths = jnp.full((1, len(PARAMETERS)), estimate, jnp.float32)
    network = {"gain": jnp.ones(()), "gates": jnp.asarray(gates)}
    return {"network": network, "estimator": {"strengths": strengths}}


def test_the_worse_the_picture_the_wider_the_gate():
    task = plain_task(gate_weight=1.0, estimate_weight=0.0)
    data = batch(task, 2)
    # Root mean square errors of 2.5 and 30 in 8-bit units: severities of 0.2 and 0.75.
    error = jnp.asarray([2.5, 30.0]) / SCALES["error"]
    index = PARAMETERS.index("error")
    data["degradation"] = jnp.zeros_like(data["degradation"]).at[:, index].set(error)
    keys = {n: jax.random.key(0) for n in task.rng_streams}

    def loss(gates):
        value, (metrics, _) = task._loss(plain_params(gates), None, {}, data, keys, {})
        return value, metrics["model/gate"]

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, gate), slope = run(jnp.full((2, 1), 0.5))
    np.testing.assert_allclose(gate, (0.3**2 + 0.25**2) / 2, rtol=1e-5)
    np.testing.assert_allclose(slope[:, 0], [0.3, -0.25], rtol=1e-5)  # closes one, opens the other
    (_, gate), _ = run(jnp.asarray([[0.2], [0.75]]))
    np.testing.assert_allclose(gate, 0.0, atol=1e-12)
    gates = jnp.asarray([[0.2, 0.4], [0.5, 0.9]])
    out = task._restore({"params": {"model": plain_params(gates)}}, data, {}, {})
    np.testing.assert_allclose(out["gate"], [0.3, 0.7], rtol=1e-6)
    np.testing.assert_array_equal(out["gates"], gates)


def test_estimates_are_learnt_by_their_error_alone():
    task = plain_task(estimate_weight=2.0, teacher_forcing_prob=0.0, l1_weight=1.0)
    data = batch(task)
    keys = {n: jax.random.key(0) for n in task.rng_streams}

    def loss(params):
        value, (metrics, _) = task._loss(params, None, {}, data, keys, {})
        return value, metrics["model/estimate"]

    params = plain_params(jnp.full((4, 1), 0.5), estimate=1.5)
    (_, error), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    np.testing.assert_allclose(error, np.abs(1.5 - data["degradation"]).mean(), rtol=1e-5)
    assert abs(float(slope["network"]["gain"])) > 0
    # 2 |estimate - truth| over six strengths: nothing comes back through the network.
    np.testing.assert_allclose(slope["estimator"]["strengths"], 2 / 6 * jnp.ones((1, 6)), rtol=1e-5)
    above = plain_params(jnp.zeros((4, 1)), estimate=3.0)
    estimate = task._estimate({"params": {"model": above}}, data, {}, {})["estimate"]
    np.testing.assert_array_equal(estimate, jnp.full((4, len(PARAMETERS)), 2.0))  # at most


def test_told_share_decides_who_hears_the_truth():
    task = plain_task()
    data = batch(task, 512)
    keys = {n: jax.random.key(0) for n in task.rng_streams}
    params = plain_params(jnp.zeros((512, 1)), estimate=1.5)  # no true strength is above 1
    for share in (0.0, 0.25, 1.0):
        shared = dataclasses.replace(task, teacher_forcing_prob=share)
        output, _ = shared._trained_on(params, data, keys, {})
        strengths = np.asarray(output.image - data["degraded"])[:, 0, 0, 0]
        truth = np.abs(strengths - data["degradation"][:, 0]) < 1e-4
        np.testing.assert_allclose(strengths[~truth], 1.5, atol=1e-4)
        assert abs(truth.mean() - share) <= (0.06 if share == 0.25 else 0)


def test_the_estimator_can_be_trained_alone():
    task = build_task(restore_text.get_config("recipe=estimator,debug").task.to_dict())
    params, extra = filled(task)
    spec = {k: jnp.zeros((2, *v.shape), v.dtype) for k, v in task.batch_spec().items()}
    grad = jax.jit(jax.grad(lambda p: task._loss(p, p, extra, spec | batch(task, 2), {}, {})[0]))
    sizes = {k: sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(v))
             for k, v in grad(params["model"]).items()}  # fmt: skip
    assert sizes["estimator"] > 0 and sizes["network"] == sizes["text_encoder"] == 0
    with pytest.raises(UserError, match="estimator_only: name a network with an estimator"):
        debug_task(estimator_only=True)


def test_a_discriminator_is_a_second_group_and_sets_in_late():
    task = debug_task("debug,variant=dncnn,adversarial")
    assert list(task.losses()) == ["model", "disc"]
    task = dataclasses.replace(task, adversarial_weight=1.0, adversarial_start=3)
    params, extra = filled(task)
    data = batch(task)

    def run(updates):
        extra = {"updates": jnp.int32(updates)}
        loss, (metrics, after) = task._loss(params["model"], params, extra, data, {}, {})
        assert int(after["updates"]) == updates + 1
        return float(loss - metrics["model/l1"]), float(metrics["model/adversarial"])

    assert run(2)[0] == pytest.approx(0.0, abs=1e-6)
    difference, term = run(3)
    assert difference == pytest.approx(term, rel=1e-4) and term != 0
    _, (metrics, _) = task._disc_loss(params["disc"], params, extra, data, {}, {})
    assert metrics["disc/real"] != metrics["disc/fake"]


@pytest.mark.parametrize(
    "changes,word",
    [
        ({"network": {"name": "swin_unet"}}, "estimator"),
        ({"estimator": {"widths": (4,)}}, "estimator"),
        (
            {"text_encoder": {"name": "compact"}},
            "this DnCNN is not conditioned on text",
        ),
        ({"discriminator": {"name": "unet"}}, "'unet'"),
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


def test_minilm_reads_instructions():
    values = restore_text.get_config("encoder=minilm,debug").task.to_dict()
    text = values["text_encoder"]
    assert (text["name"], text["tower"]) == ("distilbert", "all-MiniLM-L6-v2")
    tower, length = catalog.TOWERS[text["tower"]].make(), text["max_length"]
    task = build_task(values, {"text": FrozenText(tower, length, -1, 101, 102, 0)})
    tokens, mask = jnp.ones((4, length), jnp.int32), jnp.ones((4, length), bool)
    data = batch(task) | {"tokens": tokens, "token_mask": mask}

    def loss():
        params, extra = task.init(jax.random.key(0), data)
        frozen = {"text": tower.init(jax.random.key(1), tokens, mask)}
        keys = {n: jax.random.key(0) for n in task.rng_streams}
        return task._loss(params["model"], params, extra, data, keys, frozen)[0], params["model"]

    loss, params = jax.eval_shape(loss)
    assert loss.shape == () and "text_encoder" not in params
    # The network attends to the 384 channels of the encoder's states.
    shapes = [x.shape for x in jax.tree.leaves(params["network"]) if len(x.shape) > 1]
    assert any(shape[0] == 384 for shape in shapes)
