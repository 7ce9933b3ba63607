"""Runs whose text is read by a frozen tower: trained, sampled, evaluated, exported."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import ldm
from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.data.text import tokenizer_file
from gen_jax.pipelines.sampling import Request
from gen_jax.pipelines.text_to_image import TextToImage
from gen_jax.runs import layout, reader, text_tower
from gen_jax.runs.weights import save
from gen_jax.tasks import build_task
from gen_jax.training import stage
from tests.forks import call
from tests.processes import one_line_error
from tests.tasks.test_contract import filled
from tests.tiny_text import tower_folder


def recipe(photos, weights, **changes):
    config = ldm.get_config(f"debug,data={photos},vae=package:vae_photos,text=clip")
    config.task.text_encoder.update(weights=str(weights), **changes)
    return config


def test_a_mistake_leaves_nothing_in_the_way_of_the_same_command_corrected(photos, tmp_path):
    weights = tower_folder("clip", tmp_path / "clip")
    workdir = layout.make(tmp_path / "run")
    for changes, words in (
        ({"vocabulary": "nowhere"}, r"text_encoder\.vocabulary: nowhere: no such file"),
        ({"max_length": 7}, "data.max_length=8 and config.task.text_encoder.max_length=7"),
    ):
        with pytest.raises(UserError, match=words):
            stage.run(recipe(photos, weights, **changes), workdir)
    assert not list(workdir.iterdir())


def test_a_run_with_clip_text_generates(photos, tmp_path):
    weights = tower_folder("clip", tmp_path / "clip")
    config = recipe(photos, weights)
    # An exported run: no training is needed to have one.
    models = reader.load_all_frozen(config, tmp_path)
    task = build_task(config.task.to_dict(), models.tasks)
    params, extra = filled(task)
    folder = layout.make(tmp_path / "run")
    save(folder / layout.WEIGHTS, {"params": params, "extra": extra})
    (folder / layout.CONFIG).write_text(config_lib.to_json(config))
    text_tower.tokenizer(config.task.to_dict(), folder).save(folder / layout.TOKENIZER)

    model = reader.load(str(folder))
    assert set(model.variables["params"]["model"]) == {"unet"}
    assert set(model.frozen) == {"vae", "text"}
    pipe = TextToImage(model, num_inference_steps=1)
    images = pipe(Request([0, 0, 0], ["a cat", "a", "a cat"], "a"))
    assert images.shape == (3, 16, 16, 3)
    np.testing.assert_array_equal(images[0], images[2])
    assert (images[0] != images[1]).any()  # the words are heard
    (note,) = pipe.notes(["cat " * 9, "a cat"])
    assert "is longer than the 8 tokens" in note and note.startswith("the prompt 'cat cat")


def test_the_tower_is_found_from_any_folder_and_goes_along(photos, tmp_path, monkeypatch):
    tower_folder("clip", tmp_path / "clip")
    monkeypatch.chdir(tmp_path)
    task = recipe(photos, "clip/model.safetensors", vocabulary="clip").task
    text_tower.absolute(task)
    monkeypatch.chdir("/")
    assert task.text_encoder.weights == str(tmp_path / "clip" / "model.safetensors")
    assert task.text_encoder.vocabulary == str(tmp_path / "clip")
    out = layout.make(tmp_path / "out")
    text_tower.export(task, tmp_path / "run", out)
    assert task.text_encoder.weights == "text/model.safetensors"
    assert (out / "text" / "model.safetensors").is_file()
    # What is fetched stays where it is.
    task.text_encoder.weights = "openai/clip-vit-large-patch14"
    text_tower.absolute(task)
    text_tower.export(task, tmp_path / "run", layout.make(tmp_path / "other"))
    assert task.text_encoder.weights == "openai/clip-vit-large-patch14"
    assert not list((tmp_path / "other").iterdir())


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("clip", marks=pytest.mark.slow),
        pytest.param("distilbert", marks=pytest.mark.nightly),
    ],
)
def test_the_doors_take_runs_with_frozen_text(photos, tmp_path, kind):
    weights = tower_folder(kind, tmp_path / "models" / kind)
    recipe = f"configs/ldm.py:debug,data={photos},vae=package:vae_photos,text={kind}"
    run = tmp_path / "run"
    once = "--config.training.eval_every=0"
    main = ("main", f"--workdir={run}", f"--config={recipe},weights={weights}", once)
    result = call(*main)
    assert result.returncode == 0, result.stderr[-3000:]
    manifest = json.loads((run / layout.MANIFEST).read_text())
    models = reader.load_all_frozen(reader.load(str(run)).config, run)
    assert manifest["frozen_weights_sha256"]["text"] == models.digests["text"]
    kept = tokenizer_file.load(run / layout.TOKENIZER)
    assert manifest["data"]["tokenizer_sha256"] == kept.digest
    result = call("evaluate", f"--run={run}", f"--out={tmp_path / 'metrics.json'}")
    assert result.returncode == 0, result.stderr[-3000:]
    again = json.loads((tmp_path / "metrics.json").read_text())
    report = json.loads((run / "report.json").read_text())
    assert again.keys() == report.keys()
    result = call(*main)
    assert result.returncode == 0 and "resumed from step 4" in result.stdout, result.stderr[-3000:]

    def picture(run, out):
        result = call("generate", f"--run={run}", "--prompt=a cat", "--num=1", f"--out={out}")
        assert result.returncode == 0, result.stderr[-3000:]
        return np.asarray(Image.open(out / "00000.png"))

    first = picture(run, tmp_path / "a")
    result = call("export", f"--run={run}", f"--out={tmp_path / 'x'}")
    assert result.returncode == 0, result.stderr[-3000:]

    def digest(folder):
        return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    assert digest(tmp_path / "x" / "text") == digest(weights)
    # The exported folder is complete; the run says what it misses.
    shutil.rmtree(tmp_path / "models")
    exported = tmp_path / "x"
    np.testing.assert_allclose(picture(exported, tmp_path / "b"), first, atol=1)
    result = call("generate", f"--run={run}", "--prompt=a cat", f"--out={tmp_path / 'c'}")
    assert "config.task.text_encoder.weights" in one_line_error(result)
