"""A run with other settings of sampling: what changes, and what is refused."""

import dataclasses

import pytest

from gen_jax.common.errors import UserError
from gen_jax.pipelines.model_changes import resampled


def test_what_is_named_is_changed_and_nothing_else(runs):
    model = runs("debug,style")
    changed = {"guidance_scale": 5.0, "num_inference_steps": 7, "temperature": 0.5}
    task = resampled(model, **changed).task
    assert task == dataclasses.replace(model.task, **changed) != model.task
    assert resampled(model, guidance_scale=0.0, temperature=0.0).task == dataclasses.replace(
        model.task, guidance_scale=0.0, temperature=0.0
    )
    assert resampled(model, guidance_scale=None).task == model.task


@pytest.mark.parametrize(
    "arg,settings,words",
    [
        ("debug", {"guidance_scale": 51.0}, "^guidance_scale=51.0: expected a number from 0 to 50"),
        ("debug", {"temperature": -1.0}, "^temperature=-1.0: expected a number from 0 to 10"),
        ("debug", {"num_inference_steps": 0}, "^num_inference_steps=0: expected a whole number fr"),
        ("debug,prior=ordered", {"num_inference_steps": 3}, "it has guidance_scale, temperature$"),
    ],
)
def test_settings_that_make_no_sense_are_named(runs, arg, settings, words):
    with pytest.raises(UserError, match=words):
        resampled(runs(arg), **settings)


def test_a_run_without_a_setting_says_so(runs):
    model = runs()
    model.config.task.name = "vqvae"
    plain = dataclasses.replace(model, task=model.task.vqvae)
    for name, value in (("guidance_scale", 2.0), ("temperature", 1.0)):
        with pytest.raises(UserError, match=f"{name}=.* of vqvae without this setting; it has non"):
            resampled(plain, **{name: value})
