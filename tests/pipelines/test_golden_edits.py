"""Image to image and inpainting against diffusers' pipelines (tests/golden/edits.npz)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import pipelines
from gen_jax.diffusion import samplers, scheduler_config
from gen_jax.pipelines import edits
from gen_jax.pipelines.sampling import Request
from gen_jax.runs import reader
from tests import tiny_pipelines
from tests.tiny_text import golden_script

TOLERANCE = 1e-4  # of the largest value
QUICK = "euler"


@pytest.fixture(scope="module")
def script():
    return golden_script("make_edits")


@pytest.fixture(scope="module")
def golden(script):
    with np.load(script.HERE / "edits.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def model(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / script.KIND
    return reader.load(str(tiny_pipelines.write(folder, script.KIND)))


def results(script, model, scheduler, strength, masks):
    """Latents and pixels of the two images under each mask, in one batch."""
    config = tiny_pipelines.script().scheduler_config(scheduler, "epsilon")
    read = scheduler_config.from_diffusers(config, "scheduler_config.json")
    task = dataclasses.replace(
        model.task,
        sampler=read.sampler,
        sampler_options=samplers.SamplerOptions(**read.options),
        num_inference_steps=tiny_pipelines.script().STEPS,
        guidance_scale=script.GUIDANCE,
        strength=strength,
    )
    tokenizer, made = model.tokenizer(), tiny_pipelines.script()
    prompts = tokenizer.encode(list(made.PROMPTS) * len(masks), 12)
    negative = tokenizer.encode([made.NEGATIVE] * len(prompts.ids), 12)
    batch = {
        "tokens": prompts.ids,
        "token_mask": prompts.mask,
        "negative_tokens": negative.ids,
        "negative_mask": negative.mask,
        "seed": np.arange(len(prompts.ids), dtype=np.uint32),
        "x_T": np.concatenate([made.draws()[0]] * len(masks)),
        "is_kept": np.concatenate([np.stack([mask] * 2) for mask in masks]),
    }

    @jax.jit
    def run(variables, frozen, images, batch):
        fns = task.predict_fns()
        noise = jnp.asarray(script.posterior_noise())
        encoded = fns["encode"](variables, {"image": images, "posterior_noise": noise}, {}, frozen)
        x_0 = jnp.concatenate([encoded["latent"]] * len(masks))
        latents = fns["sample"](variables, {**batch, "x_0": x_0}, {}, frozen)
        return latents["latent"], fns["decode"](variables, latents, {}, frozen)["image"]

    return run(model.variables, model.frozen, script.images(), batch)


@pytest.mark.parametrize(
    "scheduler",
    [
        pytest.param(name, marks=() if name == QUICK else pytest.mark.slow)
        for name in golden_script("make_edits").SCHEDULERS
    ],
)
def test_changed_images_are_those_of_diffusers(script, golden, model, scheduler):
    kept = edits.kept_latents(edits.repainted(script.mask(), (script.SIDE,) * 2), 2)
    nowhere = np.zeros_like(kept)
    assert kept.any() and not kept.all()
    for strength, masks in ((0.6, {"img2img": nowhere, "inpaint": kept}), (1.0, {"inpaint": kept})):
        latents, images = results(script, model, scheduler, strength, list(masks.values()))
        for index, kind in enumerate(masks):
            rows = slice(2 * index, 2 * index + 2)
            want = golden[f"{scheduler}/{kind}/{strength}/latents"]
            assert np.abs(latents[rows] - want).max() < TOLERANCE * np.abs(want).max()
            pixels = golden[f"{scheduler}/{kind}/{strength}/pixels"].astype(int)
            assert pixels.std() > 20 and np.abs(np.asarray(images[rows]) - pixels).max() <= 1


def test_sizes_that_are_not_square_are_those_of_diffusers(script, golden, model):
    made = tiny_pipelines.script()
    pipe = pipelines.load(model, num_inference_steps=made.STEPS)
    request = Request([0, 1], made.PROMPTS, latents=script.wide_noise(), size=script.SIZE)
    images = pipe(request)
    want = golden["wide/pixels"]
    assert images.shape == want.shape == (2, 16, 24, 3)
    assert np.abs(images.astype(int) - want).max() <= 1
