"""The generative part of a restoration: strength, one noise field for all tiles, broken outputs."""

import dataclasses
import pathlib

import jax
import ml_collections
import numpy as np
import pytest

from configs import restore, restore_ldm
from gen_jax.common.errors import UserError
from gen_jax.pipelines.restoration import Restorer
from gen_jax.pipelines.restore_generative import Generative, Noise, is_broken, with_settings
from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks import build_task
from tests.tasks.test_contract import filled


def model_of(task, variables, frozen):
    return TrainedModel(
        path=pathlib.Path("runs/x"),
        config=ml_collections.ConfigDict({"task": {"name": "restore_ldm"}}),
        task=task,
        variables=variables,
        frozen=frozen,
        step=0,
        digest="",
    )


@pytest.fixture(scope="module")
def models():
    """A generative model without text, and the restorer that it works on."""
    config = restore_ldm.get_config("debug")
    tasks = {
        "first_stage": build_task(restore.get_config("debug").task.to_dict()),
        "vae": build_task(config.requires.vae.task.to_dict()),
    }
    task = build_task(config.task.to_dict(), tasks)
    variables = {
        name: dict(zip(("params", "extra"), filled(stage), strict=True))
        for name, stage in {**tasks, "": task}.items()
    }
    frozen = {name: stage.as_frozen(variables[name]) for name, stage in tasks.items()}
    first = model_of(tasks["first_stage"], variables["first_stage"], {})
    return model_of(task, variables[""], frozen), first


def image():
    return np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)


def test_none_of_it_is_the_restorers_image_exactly_and_more_is_further(models):
    generative, first = (Restorer(model) for model in models)
    plain = first(image(), tile=0).pixels
    draw = [generative(image(), tile=0, generative=Generative(a)).pixels for a in (0, 0.5, 1)]
    np.testing.assert_array_equal(draw[0], plain)
    steps = [np.abs(x.astype(int) - plain).mean() for x in draw]
    assert 0 == steps[0] < steps[1] < steps[2]
    other = generative(image(), tile=0, generative=Generative(1, seed=1)).pixels
    assert (other != draw[2]).any()
    np.testing.assert_array_equal(generative(image(), tile=0).pixels, draw[2])


def test_tiles_have_the_noise_of_the_whole():
    noise = Noise(seed=3, factor=4, channels=2)
    whole = noise(0, 0, (96, 160))
    assert whole.shape == (1, 24, 40, 2) and abs(whole.std() - 1) < 0.05
    np.testing.assert_array_equal(noise(32, 64, (64, 96)), whole[:, 8:24, 16:40])
    assert (Noise(4, 4, 2)(0, 0, (96, 160)) != whole).all()


def test_broken_images_give_way_to_the_restorers(models):
    smooth = np.random.default_rng(1).random((64, 64, 3), np.float32)
    assert not is_broken(smooth + 0.1, smooth)
    assert is_broken(np.full_like(smooth, 0.5), smooth)
    assert is_broken(np.where(np.arange(64)[None, :, None] < 9, smooth + 0.5, smooth), smooth)
    assert is_broken(np.where(smooth > 0.99, np.nan, smooth), smooth)
    model, first = models
    nan = jax.tree.map(lambda p: p * np.nan, model.variables)
    out = Restorer(dataclasses.replace(model, variables=nan))(image(), tile=0)
    assert out.num_broken == 1
    np.testing.assert_array_equal(out.pixels, Restorer(first)(image(), tile=0).pixels)


def test_mistakes_are_named(models):
    model, first = models
    assert with_settings(model, {"num_inference_steps": 1}).task.num_inference_steps == 1
    with pytest.raises(UserError, match="num_inference_steps: runs/x generates nothing"):
        with_settings(first, {"num_inference_steps": 1})
    with pytest.raises(UserError, match="generative: runs/x generates nothing"):
        Restorer(first)(image(), generative=Generative())
    with pytest.raises(UserError, match="generative"):
        Generative(1.5)
    with pytest.raises(UserError, match="seed"):
        Generative(1.0, seed=-1)


def test_a_manifest_gives_the_settings_back(models, tmp_path, monkeypatch):
    from gen_jax.data.photographs.reading import Photograph
    from gen_jax.data.photographs.sequences import Frames
    from gen_jax.pipelines import restore_settings
    from gen_jax.pipelines.restore_inputs import Job
    from gen_jax.runs import reader

    monkeypatch.setattr(reader, "name_of", lambda model: str(model.path))
    how = restore_settings.How(
        prompt="denoise", strength=0.5, size=(60, 40), given={"sigma": 3.0, "jpeg": 40.0},
        tile=0, generative=Generative(0.25, seed=9), quality=80, compare=False,
    )  # fmt: skip
    restorer, frames = Restorer(models[0]), Frames((Photograph(image()),))
    result = restorer(image(), tile=0, generative=how.generative)
    job = Job(tmp_path / "a.png", tmp_path / "b.png")
    facts = restore_settings.facts(restorer, job, how, b"data", frames, frames, result)
    read = restore_settings.how_of(facts)
    assert dataclasses.replace(read, compare=False) == how
    assert restore_settings.model_settings(facts) == {
        "num_inference_steps": 2, "guidance_scale": 1.0,
    }  # fmt: skip
    assert facts["broken_tiles"] == 0
