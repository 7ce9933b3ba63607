"""A released pipeline fine-tuned: a run like any other, and a pipeline again."""

import json

import numpy as np
import pytest

from configs import ldm
from gen_jax.data.text import tokenizer_file
from gen_jax.runs import export, layout, reader, weights
from gen_jax.training import stage
from tests import tiny_pipelines


@pytest.mark.slow
def test_a_pipeline_is_fine_tuned_and_written_back(photos, tmp_path, capsys):
    source = tiny_pipelines.write(tmp_path / "sd1")
    config = ldm.get_config(f"debug,variant=sd15,init={source},data={photos}")
    config.training.update(num_steps=2, eval_every=0)
    config.task.unet.dtype = config.task.text_encoder.dtype = "float32"
    config.evaluators = {}  # evaluated by tests/pipelines/test_released_pipelines.py
    run = layout.make(tmp_path / "run")
    stage.run(config, run)
    released = reader.load(str(source))
    count = len(weights.flatten(released.variables["params"]))
    assert f"took {count} of {count} parameters from {source}\n" in capsys.readouterr().out
    digests = json.loads((run / layout.MANIFEST).read_text())["frozen_weights_sha256"]
    assert digests == {**released.frozen_digests, "init": released.digest}
    kept = tokenizer_file.load(run / layout.TOKENIZER)
    assert kept.to_json() == released.tokenizer().to_json()

    stage.run(config, run)
    assert "resumed from step 2" in capsys.readouterr().out
    model = reader.load(str(run))
    assert model.task.process == released.task.process
    assert model.task.sampling_settings() == released.task.sampling_settings()
    moved = 0.0
    before = weights.flatten(released.variables["params"])
    for name, value in weights.flatten(model.variables["params"]).items():
        np.testing.assert_allclose(value, before[name], atol=1e-3, err_msg=name)
        moved = max(moved, np.abs(value - before[name]).max())
    assert moved > 0

    out = layout.make(tmp_path / "out")
    export.to_diffusers(model, out, "float32")
    written = reader.load(str(out))
    assert (written.digest, written.frozen_digests) == (model.digest, model.frozen_digests)
    assert written.task == model.task
