"""MeanFlow as an objective of latent diffusion: its loss, its samples and its refusals."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ldm
from gen_jax.common.errors import UserError
from gen_jax.diffusion.samplers import SamplerOptions
from gen_jax.diffusion.schedules import make_process
from gen_jax.pipelines.text_to_image import TextToImage
from gen_jax.tasks import average_velocity, build_task
from gen_jax.tasks.average_velocity import MeanFlow
from tests.tasks import plain_ldm
from tests.tasks.plain_ldm import FROZEN, Exact, batch, keys
from tests.tasks.test_contract import Stage

CONFIG = ldm.get_config("debug,vae=train,objective=meanflow")
KINDS = ("flow", "sample")

# Squared errors of all examples, as flow matching has them.
FLOW_MATCHING = MeanFlow(share=0.0, unguided_prob=1.0, weight_power=0.0, times="process")


class Exactly(Exact):
    """Exact average velocity of data that are one point, which does not depend on r."""

    def apply(self, variables, x, time, class_labels, **cond):
        return Exact.apply(self, variables, x, time, **cond)


def plain(kind="flow", unet=None, **changes):
    """A task whose networks are formulas, with parameters of the embedding."""
    unet = unet or Exactly(prediction_type=kind, class_embed_type="projection")
    process = make_process("flow", kind, objective="meanflow", timestep_sampling="stratified")
    task = plain_ldm.plain(process=process, unet=unet, sampler="meanflow", **changes)
    params, extra = average_velocity.init(task.mean_flow, plain_ldm.PARAMS, 1, jax.random.key(0))
    return task, params, extra


@pytest.mark.parametrize("velocity", ["data", "snapshot"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_exact_network_costs_nothing_and_samples_the_data_in_one_step(kind, velocity):
    settings = MeanFlow(share=1.0, velocity=velocity, weight_power=0.0, time_mean=1.0)
    task, params, extra = plain(kind, mean_flow=settings, num_inference_steps=1)

    @jax.jit
    def run(rows):
        loss = task._loss(params, None, extra, rows, keys(task), FROZEN)
        return loss, task._generate({"params": {"model": params}}, rows, keys(task), FROZEN)

    (loss, (metrics, new)), out = run(batch(64))
    assert float(loss) < 1e-6 and metrics["model/mean_flow_share"] == 1 and new["updates"] == 1
    np.testing.assert_allclose(out["latent"], plain_ldm.X_0, atol=1e-5)


def test_with_r_equal_to_t_the_loss_is_that_of_flow_matching():
    seen = []

    class Noted(Exactly):
        """Notes what it is asked for, and answers by a formula that is not exact."""

        def apply(self, variables, x, time, class_labels, **cond):
            output = jnp.sin(x) + 1e-3 * time[:, None, None, None]
            seen.append((x, time / 1000, output))
            return output

    task, params, extra = plain(unet=Noted(class_embed_type="projection"), mean_flow=FLOW_MATCHING)
    denoise = dataclasses.replace(task, process=make_process("flow", "flow"), sampler="euler")

    @jax.jit
    def run(rows):
        loss = task._loss(params, None, extra, rows, keys(task), FROZEN)
        # The calls before are those of the guided target and of the derivative.
        return loss, seen[2], denoise._loss(params, None, {}, rows, keys(task), FROZEN)[0]

    (loss, (metrics, _)), (x_t, t, output), ordinary = run(batch(512))
    eps = (x_t - (1 - t)[:, None, None, None] * plain_ldm.X_0) / t[:, None, None, None]
    flow_matching = jnp.square(output - (eps - plain_ldm.X_0)).mean()
    np.testing.assert_allclose(loss, flow_matching, rtol=1e-5)
    np.testing.assert_allclose(metrics["model/mse"], flow_matching, rtol=1e-5)
    np.testing.assert_allclose(loss, ordinary, rtol=0.05)


def test_the_share_of_longer_intervals_grows_with_the_updates():
    settings = dataclasses.replace(FLOW_MATCHING, share=0.5, anneal=(0, 100), end_prob=0.25)
    process = make_process("flow", "flow", shift=2.0, timestep_sampling="stratified")

    @jax.jit
    def draw(updates):
        return settings.draw_times(jax.random.key(0), 8192, updates, process)

    pairs = [jax.device_get(draw(jnp.array(updates))) for updates in (0, 50, 999)]
    np.testing.assert_allclose([(r < t).mean() for t, r in pairs], [0, 0.25, 0.5], atol=0.03)
    t, r = pairs[-1]
    assert (r <= t).all() and abs((r == 0).sum() / (r < t).sum() - 0.25) < 0.04


def test_guidance_scales_are_drawn_up_to_the_largest_and_are_1_without_a_caption():
    settings = MeanFlow(max_guidance_scale=4.0, unguided_prob=0.25)
    is_empty = np.arange(8192) % 8 == 0
    scales = np.asarray(jax.jit(settings.draw_scales)(jax.random.key(0), is_empty))
    assert (scales[is_empty] == 1).all() and 3.9 < scales.max() <= 4
    drawn = np.log(scales[scales != 1]) / np.log(4)
    assert abs(float((scales[~is_empty] == 1).mean()) - 0.25) < 0.03
    assert abs(float(drawn.mean()) - 0.5) < 0.03


@pytest.mark.parametrize("velocity", ["data", "snapshot"])
def test_the_loss_vanishes_where_the_network_is_guided_by_the_scale_it_is_given(velocity):
    """With constant velocities the guided one is uncond + scale (cond - uncond)."""

    class Guided(Exactly):
        """Moves along the path of the data, and by the scale away from the empty caption."""

        def apply(self, variables, x, time, class_labels, encoder_hidden_states, **cond):
            exact = Exact.apply(self, variables, x, time, **cond)
            is_empty = encoder_hidden_states[:, 2, 0] < 10  # padding
            # In place of the embedding: see below.
            offset = jnp.where(is_empty, -1.0, class_labels[:, 0] - 1.0)
            return exact + offset[:, None, None, None]

    settings = MeanFlow(share=0.0, weight_power=0.0, velocity=velocity, max_guidance_scale=4.0)
    task, params, extra = plain(unet=Guided(class_embed_type="projection"), mean_flow=settings)
    task = dataclasses.replace(task, text_dropout_prob=0.0)
    # The exact velocity of the captions is 1 more than that without a caption.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            average_velocity,
            "condition",
            lambda params, cond, interval, scale: {**cond, "class_labels": scale[:, None]},
        )
        fn = jax.jit(lambda rows: task._loss(params, None, extra, rows, keys(task), FROZEN)[0])
        assert float(fn(batch(64))) < 1e-9


def test_a_step_is_one_evaluation_of_the_network_guided_or_not():
    sizes, scales = [], []

    class Counted(Exactly):
        """Notes how many rows it is given."""

        def apply(self, variables, x, time, class_labels, **cond):
            sizes.append(len(x))
            return Exact.apply(self, variables, x, time, **cond)

    unet = Counted(class_embed_type="projection")
    task, params, _ = plain(unet=unet, guidance_scale=3.0, num_inference_steps=1)
    jax.eval_shape(
        lambda: task._generate({"params": {"model": params}}, batch(4), keys(task), FROZEN)
    )
    assert sizes == [4]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            average_velocity,
            "condition",
            lambda params, cond, interval, scale: scales.append((interval, scale)) or cond,
        )
        with jax.disable_jit():
            many = dataclasses.replace(task, num_inference_steps=2, guidance_interval=(0.6, 1.0))
            u_fn = many._average_velocity(params)
            cond = dict.fromkeys(("class_labels", "encoder_hidden_states"), jnp.zeros((1, 1)))
            average_velocity.sample(many, u_fn, cond, jnp.zeros((1, 4, 4, 4)), jax.random.key(0))
    assert [(float(a[0]), float(b[0])) for a, b in scales] == [(0.5, 3.0), (0.5, 1.0)]


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_samplers_use_its_velocity(sampler, kind):
    task, params, _ = plain(kind, num_inference_steps=4)
    task = dataclasses.replace(task, sampler=sampler)
    variables = {"params": {"model": params}}
    out = jax.jit(lambda rows: task._generate(variables, rows, keys(task), FROZEN))(batch(4))
    np.testing.assert_allclose(out["latent"], plain_ldm.X_0, atol=1e-4)


@pytest.mark.parametrize("sampler", ["meanflow", "euler"])
def test_the_options_of_the_samplers_place_the_times(sampler):
    options = SamplerOptions(timestep_spacing="linspace")
    task, _, _ = plain(num_inference_steps=3)
    task = dataclasses.replace(task, sampler=sampler, sampler_options=options)
    times = []

    def u_fn(x, t, r, scale, cond):
        times.append(float(t[0]))
        return x

    with jax.disable_jit():
        average_velocity.sample(task, u_fn, {}, jnp.ones((1, 4, 4, 4)), jax.random.key(0))
    np.testing.assert_allclose(times, np.linspace(1, 1e-3, 3), rtol=1e-6)


@pytest.fixture(scope="module")
def stage():
    return Stage(CONFIG)


def test_the_embedding_begins_as_if_it_were_not_there(stage):
    """A run that begins with the parameters of flow matching begins with its outputs."""
    params, extra = average_velocity.init(MeanFlow(), {}, 5, jax.random.key(0))
    cond = {"class_labels": jnp.ones((3, 5))}
    some = jnp.linspace(0, 1, 3)
    after = average_velocity.condition(params, cond, some, 1 + some)
    np.testing.assert_array_equal(after["class_labels"], cond["class_labels"])
    assert extra == {"updates": 0} and not stage.task.inherited
    without = build_task(
        ldm.get_config("debug,vae=train").task.to_dict(),
        {"vae": build_task(CONFIG.requires.vae.task.to_dict())},
    )
    spec = without.batch_spec()
    zeros = {k: jnp.zeros((1, *s.shape), s.dtype) for k, s in spec.items()}
    (ours, extra), (theirs, none) = (
        jax.eval_shape(functools.partial(task.init, jax.random.key(0)), zeros)
        for task in (stage.task, without)
    )
    ours, theirs = (jax.tree.map(jnp.shape, tree["model"]) for tree in (ours, theirs))
    assert {**theirs, "mean_flow": ours["mean_flow"]} == ours
    assert extra.keys() == {"updates"} and none == {}


def test_the_snapshot_follows_the_network_until_the_share_rises():
    settings = MeanFlow(velocity="snapshot", anneal=(2, 4))
    _, extra = average_velocity.init(settings, {"x": jnp.array(-1.0)}, 5, jax.random.key(0))
    taken = []
    for value in range(5):
        params = {**extra["snapshot"], "x": jnp.array(float(value))}
        teacher, extra = average_velocity.with_snapshot(settings, params, extra)
        taken.append((float(teacher["x"]), float(extra["snapshot"]["x"])))
    assert taken == [(0, 0), (1, 1), (2, 2), (2, 2), (2, 2)] and extra["updates"] == 5
    teacher, extra = average_velocity.with_snapshot(MeanFlow(), params, {"updates": 7})
    assert teacher["x"] == 4 and extra == {"updates": 8}


def test_flow_matching_comes_before_the_snapshot():
    """Before the share rises V is regressed on the data, whatever the network predicts."""

    class Wrong(Exactly):
        """Is 1 off."""

        def apply(self, variables, x, time, class_labels, **cond):
            return Exact.apply(self, variables, x, time, **cond) + 1

    settings = MeanFlow(velocity="snapshot", anneal=(2, 4), weight_power=0.0, share=1.0)
    unet = Wrong(class_embed_type="projection")
    task, params, extra = plain(unet=unet, mean_flow=settings, guidance_scale=1.0)

    @jax.jit
    def loss(updates):
        now = {**extra, "updates": updates}
        return task._loss(params, None, now, batch(16), keys(task), FROZEN)[0]

    np.testing.assert_allclose([loss(n) for n in (0, 1, 2)], [1, 1, 0], atol=1e-4)


@pytest.mark.slow
def test_three_steps_change_every_parameter_and_resume_exactly(stage):
    before, (first, after, metrics) = stage.start(1), stage.straight
    for m in metrics:
        assert float(m["nonfinite"]) == 0 and 0 < float(m["model/mean_flow_share"]) < 1
    for a, b in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params)):
        assert np.abs(np.asarray(a) - np.asarray(b)).max() > 0
    assert int(after.extra["updates"]) == 3
    again, _ = stage.steps(1, 2, state=first, start=1)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(again)):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.slow
def test_eight_devices_equal_one(stage):
    _, m8 = stage.steps(8, 2)
    for a, b in zip(stage.straight[2], m8):
        np.testing.assert_allclose(a["model/loss"], b["model/loss"], rtol=1e-5)
        np.testing.assert_allclose(a["model/grad_norm"], b["model/grad_norm"], rtol=1e-4)


def test_what_does_not_go_together_is_refused(stage):
    task = stage.task
    refused = {
        "guidance_scale=9": dict(guidance_scale=9.0),
        "guidance_rescale=0.5": dict(guidance_rescale=0.5),
        "class_embed_type": dict(unet=task.unet.clone(class_embed_type=None)),
        "attention_implementation": dict(unet=task.unet.clone(attention_implementation="cudnn")),
        "sampler='meanflow'": dict(process=make_process("flow", "flow")),
    }
    for text, changes in refused.items():
        with pytest.raises(UserError, match=text):
            dataclasses.replace(task, **changes)
    for values in (dict(schedule="linear"), dict(schedule="flow", prediction_type="v_prediction")):
        with pytest.raises(UserError, match="objective='meanflow'"):
            make_process(objective="meanflow", **values)
    with pytest.raises(UserError, match="objective='other'"):
        make_process(objective="other")
    with pytest.raises(UserError, match=r"mean_flow.anneal=\(1,\)"):
        MeanFlow(anneal=(1,))
    with pytest.raises(UserError, match=r"mean_flow.share=1.5"):
        MeanFlow(share=1.5)
    with pytest.raises(UserError, match=r"mean_flow.velocity='other': expected data or"):
        MeanFlow(velocity="other")
    with pytest.raises(UserError, match="expected denoise or meanflow"):
        ldm.get_config("objective=other")
    assert "negative_prompt" not in TextToImage.options(task)
    ordinary = dataclasses.replace(task, process=make_process("flow", "flow"), sampler="euler")
    assert "negative_prompt" in TextToImage.options(ordinary)
