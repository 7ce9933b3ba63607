"""Overrides on the command line that do not fit the config."""

import ml_collections
import pytest

from gen_jax.common import overrides
from gen_jax.common.errors import UserError


@pytest.fixture
def config():
    return ml_collections.ConfigDict(
        {
            "task": {"name": "ldm", "latent_patch": 1, "discriminator": None},
            "training": {"num_steps": 10, "ema": 0.9, "cache": True},
            "data": {"crop_scale": (0.5, 1.0), "num": 3, "folders": ["a", "b"]},
            "frozen": {},
        }
    ).lock()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config.task.name=3", "-config.training.ema=1", "--config.training.ema", "1e-3"],
        ["--config.training.cache", "--noconfig.training.cache", "--config.training.cache=false"],
        ["--config.data.crop_scale=(1, 2)", "--config.data.crop_scale=1"],
        ["--config.data.folders[1]=c", "--config.frozen={'vae': 'runs/vae'}"],
        ["--workdir=x", "--config=a.py", "--configs.task.zzz=3", "config.zzz=3"],
    ],
)
def test_what_fits_passes(config, arguments):
    overrides.check(config, arguments)


@pytest.mark.parametrize(
    "argument,line",
    [
        (
            "--config.task.latent_ptach=2",
            "the config has no key task.latent_ptach; did you mean latent_patch?",
        ),
        ("--config.training.num-steps=2", "no key training.num-steps; did you mean num_steps?"),
        ("--config.trainin.ema=2", "no key trainin; did you mean training?"),
        ("--config.num_steps=2", "no key num_steps; did you mean training.num_steps?"),
        ("--config.data.zzz=2", "no key data.zzz; data has crop_scale, folders, num"),
        ("--config.frozen.vae=2", "no key frozen.vae; frozen has none"),
        ("--config.zzz=2", "no key zzz; it has data, frozen, task, training"),
        ("--config.data.num.x=2", "config.data.num is 3 and has no keys; set config.data.num as a"),
        ("--config.data.crop_scale[0]=2", "config.data.crop_scale is (0.5, 1.0) and has no keys"),
        ("--config.data.folders[2]=c", "config.data.folders is ['a', 'b'] and has no keys"),
    ],
)
def test_unknown_keys(config, argument, line):
    with pytest.raises(UserError) as caught:
        overrides.check(config, ["--config.training.ema=0.1", argument, "--config.data.num=1"])
    assert str(caught.value).startswith(f"{argument}: ") and line in str(caught.value)
    assert "training.ema" not in str(caught.value) and "data.num=1" not in str(caught.value)


@pytest.mark.parametrize(
    "argument,line",
    [
        ("--config.training.num_steps=1.5", "expected a whole number; the config has 10"),
        ("--config.training.ema=nan", "expected a finite number; the config has 0.9"),
        ("--config.training.ema=much", "expected a finite number; the config has 0.9"),
        ("--config.training.cache=maybe", "expected true or false; the config has True"),
        ("--config.data.crop_scale=(1, a b", "expected a tuple, such as '(1, 2)'; the config has"),
        ("--config.task=3", "expected a dict, such as '{\"key\": 1}', or one of its keys"),
        ("--config.task.discriminator=x", "the config has None there"),
    ],
)
def test_values_of_another_type(config, argument, line):
    with pytest.raises(UserError) as caught:
        overrides.check(config, ["--config.task.name=x", argument])
    assert str(caught.value).startswith(f"{argument}: {line}")
    assert "task.name" not in str(caught.value)


def test_a_value_may_be_the_next_argument(config):
    with pytest.raises(UserError, match=r"^--config.training.ema=x: expected a finite number"):
        overrides.check(config, ["--config.training.ema", "x"])
