"""Exported pipelines against diffusers itself: `pytest -m nightly`."""

import numpy as np
import pytest

from gen_jax import pipelines
from gen_jax.pipelines.sampling import Request
from gen_jax.runs import export, layout, reader
from tests import tiny_pipelines

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_diffusers_gives_the_same_image_of_an_exported_pipeline(kind, dtype, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    script = tiny_pipelines.script()
    source = tiny_pipelines.write(tmp_path / kind, kind, dtype)
    model = reader.load(str(source))
    # A run whose autoencoder has statistics of its own.
    vae = dict(model.frozen["vae"])
    vae["latent_mean"] = np.array([0.3, -1.0, 2.0, 0.1], np.float32)
    vae["latent_std"] = np.array([6.0, 5.0, 4.0, 7.0], np.float32)
    trained = model.__class__(**{**vars(model), "frozen": {**model.frozen, "vae": vae}})
    for name, one in (("unchanged", model), ("statistics", trained)):
        if (name, dtype) == ("statistics", "float16"):
            continue  # the folded weights are rounded to half precision
        out = layout.make(tmp_path / name)
        export.to_diffusers(one, out, dtype)
        theirs = diffusers.StableDiffusionPipeline.from_pretrained(out)
        theirs.set_progress_bar_config(disable=True)
        latents, want = script.sampled(theirs, 7.5)
        ours = pipelines.load(one, num_inference_steps=script.STEPS)
        start, _ = script.draws()
        batch = ours._batch(
            Request([0, 1], script.PROMPTS, script.NEGATIVE, start), np.arange(2, dtype=np.uint32)
        )
        got = ours._run(batch)
        worst = np.abs(np.asarray(got["latent"]) - latents).max() / np.abs(latents).max()
        pixels = np.abs(np.asarray(got["image"]).astype(int) - want).max()
        print(f"{kind} {dtype} {name}: latents {worst:.1e} relative, pixels {pixels}")
        assert worst < 1e-4 and pixels <= 1
