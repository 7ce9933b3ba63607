"""Every field of a task, of its parts and of evaluators can be set, whether a recipe states it."""

import json
import subprocess
import sys

import pytest

from gen_jax.common import config as config_lib
from gen_jax.common.build import class_of
from gen_jax.common.fields import defaults_of, parts_of
from gen_jax.runs import reader
from gen_jax.tasks import TASKS, build_task
from gen_jax.training import checks, defaults
from tests import recipes
from tests.processes import ROOT, environment
from tests.tiny_text import unloaded

CONFIGS = recipes.contract_configs()


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_defaults_change_nothing_and_are_all_there(name):
    module, arg = CONFIGS[name]
    config = module.get_config(arg)
    tasks = {k: build_task(c.task.to_dict()) for k, c in config.requires.items()}
    tasks |= {k: reader.load(source).task for k, source in config.frozen.items() if source}
    tasks |= unloaded(config)
    whole = defaults.complete(module.get_config(arg))
    checks._check_numbers(whole.to_dict())
    assert build_task(whole.task.to_dict(), tasks) == build_task(config.task.to_dict(), tasks)
    again = config_lib.from_json(config_lib.to_json(whole))
    assert build_task(again.task.to_dict(), tasks) == build_task(config.task.to_dict(), tasks)
    kind = class_of(TASKS, name, "")
    assert defaults_of(kind, placeholders=True).keys() <= set(whole.task)
    for key, part in parts_of(kind).items():
        if whole.task.get(key) is not None and callable(part.kind):
            stated = defaults_of(part.kind, placeholders=True).keys() - set(part.derived)
            assert stated <= set(whole.task[key]), key


# Flags are read once per process: each list of arguments is read in a fork.
_SCRIPT = """
import json, os, sys
from absl import flags
import gen_jax.main
import gen_jax.configs.common
for arguments in json.loads(sys.argv[1]):
    if not os.fork():
        sys.argv[1:] = arguments
        flags.FLAGS(sys.argv)
        print(json.dumps(flags.FLAGS.config.to_dict(), default=str), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def parsed(*lists):
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(lists)],
        cwd=ROOT, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return map(json.loads, done.stdout.splitlines())


def test_what_recipes_leave_out_is_set_from_the_command_line():
    of_ldm = (
        "--config=configs/ldm.py:debug",
        "--config.task.process.snr_gamma=5",
        "--config.task.process.rescale_zero_terminal_snr=true",
        "--config.task.process.num_train_timesteps=500",
        "--config.task.process.beta_end=0.01",
        "--config.task.unet.norm_eps=0.1",
        "--config.evaluators.error_by_time.split=train",
    )
    of_faces = (
        "--config=configs/faces.py:debug,objective=adversarial",
        "--config.task.objective.drifting.pools=(1,)",
        "--config.evaluators.interpolation.samples=7",
    )
    ldm, faces = parsed(of_ldm, of_faces)
    process = ldm["task"]["process"]
    assert (process["snr_gamma"], process["beta_end"], process["beta_start"]) == (5.0, 0.01, None)
    assert process["rescale_zero_terminal_snr"] and process["num_train_timesteps"] == 500
    assert ldm["task"]["unet"]["norm_eps"] == 0.1
    assert ldm["evaluators"]["error_by_time"]["split"] == "train"
    assert faces["task"]["objective"]["drifting"]["pools"] == [1]
    assert faces["task"]["objective"]["drifting"]["real_per_generated"] == 1
    assert faces["evaluators"]["interpolation"]["samples"] == 7
