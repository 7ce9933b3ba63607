"""A run that samples otherwise: what is changed, and what it cannot have."""

import dataclasses

import pytest

from gen_jax.common.errors import UserError
from gen_jax.pipelines.resampled import resampled


def test_what_is_named_is_changed_and_nothing_else(runs):
    model = runs("debug,style")
    task = resampled(model, 5.0, 7, 0.5).task
    changed = {"guidance_scale": 5.0, "num_inference_steps": 7, "temperature": 0.5}
    assert task == dataclasses.replace(model.task, **changed) != model.task
    assert resampled(model, 0.0, temperature=0.0).task == dataclasses.replace(
        model.task, guidance_scale=0.0, temperature=0.0
    )
    assert resampled(model).task == model.task


@pytest.mark.parametrize(
    "arg,settings,words",
    [
        ("debug", {"guidance": 51.0}, "--guidance=51.0: expected a number from 0 to 50"),
        ("debug", {"temperature": -1.0}, "--temperature=-1.0: expected a number from 0 to 10"),
        ("debug", {"steps": 0}, "--steps=0: expected a whole number from 1 to"),
        ("debug,prior=ordered", {"steps": 3}, "draws one code after the other"),
    ],
)
def test_settings_that_make_no_sense_are_named(runs, arg, settings, words):
    with pytest.raises(UserError, match=words):
        resampled(runs(arg), **settings)


def test_a_run_without_a_setting_says_so(runs):
    model = runs()
    model.config.task.name = "vqvae"
    plain = dataclasses.replace(model, task=model.task.vqvae)
    for name, value in (("guidance", 2.0), ("steps", 3), ("temperature", 1.0)):
        with pytest.raises(UserError, match=f"--{name}: .* of vqvae, which has no such setting"):
            resampled(plain, **{name: value})
