"""The generative stage behind a restorer: strength, seeds, instructions, and what is refused."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from configs import restore_ldm, vae
from gen_jax.common.errors import UserError
from gen_jax.encoders.clip import CLIPText
from gen_jax.tasks import build_task
from gen_jax.tasks.text import FrozenText
from tests.tasks.test_contract import filled

COUNT = 4


@functools.cache
def made(arg="debug,text"):
    """A task, its variables, the frozen models and a batch, all of random numbers."""
    config = restore_ldm.get_config(arg)
    tasks = {k: build_task(c.task.to_dict()) for k, c in config.requires.items()}
    task = build_task(config.task.to_dict(), tasks)
    frozen = {}
    for name, stage in tasks.items():
        params, extra = filled(stage)
        frozen[name] = stage.as_frozen({"params": params, "extra": extra})
    params, extra = filled(task)
    rng = np.random.default_rng(0)
    batch = {
        "degraded": rng.random((COUNT, 16, 16, 3)).astype(np.float32),
        "degradation": rng.random((COUNT, *task.batch_spec()["degradation"].shape), np.float32),
        "tokens": rng.integers(3, 200, (COUNT, 24)).astype(np.int32),
        "token_mask": np.arange(24)[None] < np.asarray([[24], [5], [9], [2]]),
        "seed": np.asarray([5, 6, 7, 8], np.uint32),
        "strength": np.ones(COUNT, np.float32),
    }
    return task, {"params": params, "extra": extra}, frozen, batch


@functools.cache
def restorer(task):
    _, variables, frozen, _ = made()
    draw = jax.jit(task._restore)
    return lambda batch, variables=variables: draw(variables, batch, {}, frozen)


def test_strength_leads_from_the_restorers_image_to_the_generated_one():
    task, variables, frozen, batch = made()
    draw = restorer(task)
    strengths = np.asarray([0.0, 0.25, 0.5, 1.0], np.float32)
    same = {key: np.repeat(rows[:1], COUNT, 0) for key, rows in batch.items()}
    out = jax.device_get(draw({**same, "strength": strengths}))
    np.testing.assert_array_equal(out["restored"][0], out["first_stage"][0])
    change = out["restored"] - out["first_stage"]
    assert np.abs(change[3]).max() > 1e-3
    for row, strength in enumerate(strengths):
        np.testing.assert_allclose(change[row], strength * change[3], atol=1e-5)
    # The first stage is the restorer's image, and numbers that are not finite stay out of it.
    alone = {"params": {"model": frozen["first_stage"]["params"]}, "extra": {}}
    first = jax.jit(task.restorer.predict_fns()["restore"])(alone, batch, {}, frozen)["restored"]
    np.testing.assert_allclose(draw(batch)["first_stage"], first, atol=1e-5)
    broken = jax.tree.map(lambda p: p * np.nan, variables)
    out = np.asarray(draw({**batch, "strength": strengths}, broken)["restored"])
    assert np.isfinite(out[0]).all() and not np.isfinite(out[3]).any()


def test_an_image_is_of_its_seed_noise_and_instruction():
    task, _, _, batch = made()
    draw, last = restorer(task), {key: rows[::-1] for key, rows in batch.items()}
    whole = draw(batch)["restored"]
    np.testing.assert_allclose(draw(last)["restored"][::-1], whole, atol=1e-5)
    other = draw({**batch, "seed": batch["seed"] + 1})["restored"]
    assert np.abs(other - whole).max(axis=(1, 2, 3)).min() > 1e-5
    keys = jax.vmap(jax.random.key)(batch["seed"])
    noise = jax.vmap(lambda key: jax.random.normal(key, task.latent_shape))(keys)
    np.testing.assert_allclose(draw({**batch, "noise": noise})["restored"], whole, atol=1e-5)
    words = {**batch, "tokens": batch["tokens"][::-1], "token_mask": batch["token_mask"][::-1]}
    assert np.abs(draw(words)["restored"] - whole).max() > 1e-4


def test_guidance_changes_what_is_generated_and_not_the_restorers_image():
    task, *_, batch = made()
    plain = restorer(task)(batch)
    # And behind the autoencoder's own decoder.
    changed = dataclasses.replace(task, guidance_scale=3.0, decoder=None)
    guided = restorer(changed)(batch)
    assert np.abs(guided["restored"] - plain["restored"]).max() > 1e-3
    np.testing.assert_allclose(guided["first_stage"], plain["first_stage"], atol=1e-5)


def test_without_text_the_restorer_is_asked_for_everything():
    task, _, _, _batch = made()
    blind = dataclasses.replace(task, reads_text=False)
    assert blind.text_encoder is None and "tokens" not in blind.batch_spec()
    assert "tokens" not in blind.predict_spec()["restore"]
    config = restore_ldm.get_config("debug")
    assert config.data.transform.name == "restoration" and not config.task.reads_text


@pytest.mark.slow
def test_the_full_size_has_the_unet_of_stable_diffusion():
    config = restore_ldm.get_config("variant=sd,text,vae=given")
    stage = build_task(vae.get_config("variant=sd").task.to_dict())
    task = build_task(config.task.to_dict(), {"first_stage": made()[0].restorer, "vae": stage})
    batch = {k: np.zeros((1, *s.shape), s.dtype) for k, s in task.batch_spec().items()}
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))
    # As of Stable Diffusion 1.5, with narrower text states and the inputs and vector besides.
    assert 800e6 < count < 860e6


@pytest.mark.parametrize("change,words", [
    (lambda c, t: t.pop("vae"), "frozen.vae is missing"),
    (lambda c, t: t.pop("first_stage"), "frozen.first_stage: a generative stage begins"),
    (lambda c, t: c.pop("unet"), "task.unet is missing"),
    (lambda c, t: c["path"].update(form="bridge"), "form='bridge'"),
    (lambda c, t: c.update(num_inference_steps=0), "num_inference_steps=0"),
    (lambda c, t: (c["path"].update(form="noise"), c.update(decoder=None)), "l1_weight=2.0: a"),
    (lambda c, t: c.update(l1_weight=0.0, perceptual_weight=0.0), "decoder: nothing trains it"),
    (lambda c, t: c.update(perceptual="sharpness"), "perceptual='sharpness'"),
    (lambda c, t: t.update(first_stage=dataclasses.replace(t["first_stage"], channels=1)),
     "a restorer of gray images"),
    (lambda c, t: t.update(first_stage=dataclasses.replace(t["first_stage"], text_encoder=None)),
     "reads no text"),
    (lambda c, t: t.update(first_stage=dataclasses.replace(
        t["first_stage"], text_encoder=FrozenText(CLIPText(), 24, -1, 0, 1, 1))),
     "a restorer with a frozen text encoder"),
])  # fmt: skip
def test_mistakes_are_named(change, words):
    task = made()[0]
    config = restore_ldm.get_config("debug,text")
    tasks = {"first_stage": task.restorer, "vae": build_task(config.requires.vae.task.to_dict())}
    values = config.task.to_dict()
    change(values, tasks)
    with pytest.raises(UserError, match=words):
        build_task(values, tasks)


@pytest.mark.parametrize("arg,words", [("form=x", "form=x"), ("variant=sdxl", "variant=sdxl")])
def test_arguments_are_checked(arg, words):
    with pytest.raises(UserError, match=words):
        restore_ldm.get_config(arg)
