"""Every config builds, every module imports, every door answers quickly."""

import dataclasses
import importlib
import pkgutil
import subprocess
import sys

import jax
import ml_collections
import numpy as np
import pytest

import gen_jax
from configs import (
    art,
    common,
    detail,
    encoder,
    faces,
    faces_text,
    ldm,
    restore,
    restore_text,
    vae,
    vqvae,
)
from gen_jax.common import config as config_lib
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.evaluation import build_evaluators
from gen_jax.runs import reader
from gen_jax.runs.data import DataConfig
from gen_jax.tasks import build_task
from gen_jax.training import checks, loop, optim
from tests import forks, recipes
from tests.processes import ROOT, environment, one_line_error
from tests.tiny_text import unloaded

DOORS = sorted(p.stem for p in (ROOT / "gen_jax").glob("*.py") if p.stem != "__init__")
# Every recipe as it stands and as ":debug", and what else is worth building.
VARIANTS = [(module, arg) for module in recipes.modules() for arg in ("", "debug")]
VARIANTS += [
    (vae, "data=shapes"), (vae, "data=pictograms"), (vae, "variant=sd"),
    (vae, "data=x,recipe=pictograms"), (ldm, "data=x,recipe=pictograms"),
    (ldm, "data=photos"), (ldm, "debug,data=photos"), (ldm, "recipe=photos"),
    (ldm, "data=shapes"), (ldm, "vae=train"), (ldm, "data=shapes,vae=train"),
    (ldm, "variant=sd15"), (ldm, "variant=sd2"), (ldm, "debug,data=shapes"),
    (ldm, "variant=sd2,data=x,debug"),
    (ldm, "text=clip"), (ldm, "text=distilbert,data=shapes,debug"),
    (encoder, "variant=small"),
    (restore, "variant=scunet"), (restore, "variant=ffdnet,gray"),
    (restore, "variant=dncnn,degradation=dejpeg"), (restore, "debug,adversarial"),
    (restore_text, "encoder=clip"),
    (restore_text, "encoder=distilbert,text=film,gate=global"),
    (restore_text, "text=cross,gate=none"), (restore_text, "finish,text_stages=body"),
    (restore_text, "variant=large"), (restore_text, "variant=large,debug"),
    (restore_text, "recipe=package,data=x"), (restore_text, "recipe=package,debug"),
    (restore_text, "recipe=estimator,debug"),
    (faces, "size=small,res=16,objective=imle,gray"), (faces, "objective=projected"),
    (faces, "size=huge,res=256,objective=paired"), (faces, "size=large,objective=adversarial"),
    (faces_text, "objective=adversarial,encoder=clip"),
    (faces_text, "objective=guided,text=cross,encoder=distilbert,size=large,res=32"),
    (vqvae, "data=x,res=128,codes=1024,size=base,disc"),
    (vqvae, "quantizer=fsq,codes=1024"), (vqvae, "quantizer=residual,debug"),
    (art, "data=x,res=128,size=base,prior=ordered,encoder=minilm"),
    (art, "joint,encoder=distilbert,quantizer=fsq,codes=256"),
    (art, "captions=own,style"), (art, "captions=own,size=base,debug"),
    (detail, "data=x,res=128,size=base,quantizer=fsq"),
]  # fmt: skip


@pytest.mark.parametrize("module,arg", VARIANTS, ids=lambda v: getattr(v, "__name__", v))
def test_config_builds(module, arg):
    config = module.get_config(arg)
    assert config.is_locked
    text = config_lib.to_json(config)
    assert config_lib.to_json(config_lib.from_json(text)) == text, "plain values only"
    build(loop.Schedule, config.training.to_dict(), "config.training").check_numbers()
    checks._check_numbers(config.to_dict())
    named = DataConfig.of(config.data.to_dict()).transform
    fields = {"name", *(field.name for field in dataclasses.fields(named))}
    assert set(config.data.transform) == fields, "each can be set from the command line"
    assert all(named.build(config.data.image_size, train=train) for train in (True, False))
    build_evaluators(config.evaluators.to_dict(), config.task.name)
    for group in config.optimizer.values():
        optim.make_optimizer(group.to_dict(), 10)
    tasks = {k: build_task(c.task.to_dict()) for k, c in config.requires.items()}
    tasks |= {k: reader.load(source).task for k, source in config.frozen.items() if source}
    tasks |= unloaded(config)
    task = build_task(config.task.to_dict(), tasks)
    assert set(task.losses()) == set(config.optimizer)
    assert set(config.training.ema_groups) <= set(task.losses())
    checks.check_inputs(task, config.data.to_dict())
    # A config read back from a run directory builds the same task.
    assert build_task(config_lib.from_json(text).task.to_dict(), tasks) == task


@pytest.mark.parametrize("module,arg,count", [
    (ldm, "variant=sd15", 859_520_964), (ldm, "variant=sd2", 865_910_724),
    (vae, "variant=sd", 83_653_863),
])  # fmt: skip
def test_full_sizes_have_the_published_counts(module, arg, count):
    config = module.get_config(arg)
    sd_vae = build_task(vae.get_config("variant=sd").task.to_dict())
    tasks = {"vae": sd_vae, **unloaded(config)} if config.task.name == "ldm" else None
    task = build_task(config.task.to_dict(), tasks)
    batch = {k: np.zeros((1, *s.shape), s.dtype) for k, s in task.batch_spec().items()}
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    model = params["model"].get("unet", params["model"])
    assert sum(int(np.prod(x.shape)) for x in jax.tree.leaves(model)) == count


def test_arguments_are_checked():
    assert common.parse_arg("b=2,c", a=1, b=1.5, c=False).to_dict() == {"a": 1, "b": 2.0, "c": True}
    for arg, word in [("x=1", "'x'"), ("a=one", "int"), ("c=maybe", "bool")]:
        with pytest.raises(UserError, match=word):
            common.parse_arg(arg, a=1, c=False)
    assert isinstance(common.base(), ml_collections.ConfigDict)


def test_a_transform_has_all_of_its_fields_and_no_others():
    assert common.transform("features") == {"name": "features", "flip": True}
    with pytest.raises(UserError, match=r"^transform: unknown name 'crop'; known are crops, "):
        common.transform("crop")
    with pytest.raises(UserError, match=r"^transform 'features': unknown key 'gray'; it takes fl"):
        common.transform("features", gray=True)


def test_a_value_with_a_comma_stands_in_quotes():
    parsed = common.parse_arg('data="/a, b=c\'s/d",debug', data="", debug=False)
    assert parsed.to_dict() == {"data": "/a, b=c's/d", "debug": True}
    for arg in ("data=/a,b", 'data="/a,b'):
        with pytest.raises(UserError, match=r'in double quotes: .--config=FILE:data="a,b"'):
            common.parse_arg(arg, data="")


def test_the_large_restorer_by_text_is_the_large_restorer():
    large = restore_text.get_config('variant=large,data="/a,b"')
    plain = restore.get_config("variant=large")
    for key in ("block_out_channels", "window_size", "dtype"):
        assert large.task.network[key] == plain.task.network[key]
    assert large.training == plain.training and large.data.dir == "/a,b"
    assert large.task.network.text == ("film", "cross")
    with pytest.raises(UserError, match="variant=scunet: expected swin or large"):
        restore_text.get_config("variant=scunet")


@pytest.mark.parametrize("module", [ldm, art, detail])
def test_data_with_a_comma_reaches_the_recipes_that_are_trained_first(module):
    config = module.get_config('data="a,b"')
    (required,) = config.requires.values()
    assert config.data.dir == required.data.dir == "a,b"


def test_every_module_imports():
    names = [m.name for m in pkgutil.walk_packages(gen_jax.__path__, "gen_jax.")]
    assert len(names) > 50
    # Doors declare flags, of which a process has one set: test_help_is_quick... runs each.
    for name in sorted(set(names) - {f"gen_jax.{door}" for door in DOORS}):
        importlib.import_module(name)


@pytest.mark.parametrize("door", DOORS)
def test_help_is_quick_and_complete(door):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"gen_jax.{door}", "--help"],
        cwd=ROOT, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0 and "Flags:" in result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) > 10 and all(line.startswith("import time: ") for line in lines)
    heavy = {"jax", "flax", "numpy", "grain", "PIL", "cv2", "orbax", "matplotlib"}
    imported = {line.split("|")[-1].strip().split(".")[0] for line in lines}
    assert not heavy & imported, f"{door} imports {heavy & imported} before its flags are read"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("arguments", [(), ("--no-such-flag",), ("stray",)])
def test_mistakes_are_one_line(door, arguments):
    one_line_error(forks.call(door, *arguments))


@pytest.mark.parametrize(
    "config,word",
    [("nowhere.py", "no such file"), ("configs/ldm.py:size=3", "'size'"),
     ("configs/ldm.py:variant=sd9", "sd9")],
)  # fmt: skip
def test_config_mistakes_are_one_line(tmp_path, config, word):
    result = forks.call("main", f"--config={config}", f"--workdir={tmp_path}")
    assert word in one_line_error(result)


@pytest.mark.parametrize(
    ("size", "millions"), [("small", 1.1), ("base", 3.3), ("large", 31.6), ("huge", 53.9)]
)
def test_generators_of_faces_have_the_size_that_is_said(size, millions):
    config = faces.get_config(f"res=256,size={size}").task.to_dict()
    generator = build_task(config).generator
    z = jax.ShapeDtypeStruct((1, generator.z_dim), np.float32)
    shapes = jax.eval_shape(generator.init, jax.random.key(0), z)
    assert round(sum(x.size for x in jax.tree.leaves(shapes)) / 1e6, 1) == millions
