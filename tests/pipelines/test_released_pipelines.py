"""Pipelines in diffusers' layout, sampled here and by diffusers (tests/golden/pipelines.npz)."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import pipelines
from gen_jax.common.errors import UserError
from gen_jax.diffusion import guidance, samplers, scheduler_config
from gen_jax.pipelines.model_changes import resampled
from gen_jax.pipelines.sampling import Request
from gen_jax.runs import reader
from gen_jax.tasks import first_stage, text
from tests import tiny_pipelines
from tests.forks import call
from tests.processes import one_line_error

KINDS = ("sd1", "sd2")
TOLERANCE = 1e-4  # of the largest value


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    return {k: reader.load(str(tiny_pipelines.write(folder / k, k))) for k in KINDS}


def difference(got, want):
    return float(np.abs(np.asarray(got) - want).max() / np.abs(want).max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_gives_the_images_of_diffusers(models, kind):
    script, golden = tiny_pipelines.script(), tiny_pipelines.golden()
    model = models[kind]
    tokens = model.tokenizer().encode(list(script.PROMPTS), 12)
    np.testing.assert_array_equal(tokens.ids, golden[f"{kind}/tokens"])
    pipe = pipelines.load(model, num_inference_steps=script.STEPS)
    latents, _ = script.draws()
    images = pipe(Request([0, 1], script.PROMPTS, script.NEGATIVE, latents))
    want = golden[f"{kind}/{script.DEFAULT}/7.5/pixels"]
    assert images.shape == want.shape and want.std() > 30
    assert np.abs(images.astype(int) - want).max() <= 1


def test_the_settings_are_those_of_the_pipeline(models):
    for kind, prediction_type in (("sd1", "epsilon"), ("sd2", "v_prediction")):
        task = models[kind].task
        assert task.process.prediction_type == prediction_type
        assert (task.sampler, task.num_inference_steps, task.guidance_scale) == ("pndm", 50, 7.5)
        assert (task.image_size, task.latent_shape) == (16, (8, 8, 4))


def test_a_run_has_the_compute_dtype_of_its_config():
    with pytest.raises(UserError, match=r"dtype=bfloat16: .*leave dtype out"):
        reader.load("package:vae_photos", dtype="bfloat16")


def test_another_sampler_takes_over_what_its_scheduler_class_knows(models):
    """As `DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)` in diffusers."""
    task = models["sd1"].task
    assert task.sampler_options.final_sigmas_type == "sigma_min"  # set_alpha_to_one=False
    other = resampled(models["sd1"], sampler="dpmpp_2m").task
    assert other.sampler == "dpmpp_2m"
    options = other.sampler_options
    assert (options.timestep_spacing, options.steps_offset) == ("leading", 1)
    assert options.final_sigmas_type == "zero"
    assert resampled(models["sd1"], num_inference_steps=7).task.sampler_options == (
        task.sampler_options
    )


# As released with Stable Diffusion 1.5: without timestep_spacing, and with keys that PNDM has not.
SD_15_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "disable_corrector": [],  # of UniPC, from which a file may have been converted
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def test_another_sampler_takes_over_the_released_file_not_the_defaults_of_its_class(tmp_path):
    folder = tiny_pipelines.write(tmp_path / "sd1")
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SD_15_SCHEDULER))
    model = reader.load(str(folder))
    for sampler in samplers.SAMPLERS:
        options = resampled(model, sampler=sampler).task.sampler_options
        # DDIM and DDPM clip by default, and Euler and the DPM family have another spacing.
        assert options.clip_x_0 is None
        own = {"pndm": "leading", "ddim": "leading", "ddpm": "leading", "lcm": "leading"}
        assert options.timestep_spacing == own.get(sampler, "linspace")
        assert options.steps_offset == 1
    # PNDM does not read this key, and Euler would change the noise levels of the model.
    hidden = {**model.task.scheduler_config, "rescale_betas_zero_snr": True}
    hidden["prediction_type"] = "v_prediction"
    process = dataclasses.replace(model.task.process, prediction_type="v_prediction")
    task = dataclasses.replace(model.task, scheduler_config=hidden, process=process)
    with pytest.raises(UserError, match="sampler='euler': reads rescale_betas_zero_snr=True in"):
        task.with_settings(sampler="euler")
    assert task.with_settings(sampler="heun").sampler == "heun"
    # An export keeps the keys for which PNDM has no use.
    released = model.task.as_released(model.variables, model.frozen)
    assert {**released.scheduler, "_diffusers_version": "0.6.0"} == SD_15_SCHEDULER
    # Options that a run was given itself go before the file.
    given = samplers.SamplerOptions(timestep_spacing="trailing", skip_prk_steps=False)
    task = dataclasses.replace(model.task, sampler_options=given)
    for sampler in ("ddim", "euler"):
        options = task.with_settings(sampler=sampler).sampler_options
        assert (options.clip_x_0, options.timestep_spacing) == (None, "trailing")
    assert task.as_released(model.variables, model.frozen).scheduler["skip_prk_steps"] is False


def test_a_cpu_uses_the_weights_in_place(models):
    kernel = models["sd1"].variables["params"]["model"]["unet"]["conv_in"]["kernel"]
    on_device = jax.device_put(kernel)
    assert on_device.unsafe_buffer_pointer() == kernel.ctypes.data


@pytest.mark.slow
def test_the_command_evaluates_a_pipeline(photos, tmp_path):
    folder = tiny_pipelines.write(tmp_path / "sd1")
    before = sorted(folder.rglob("*"))
    out = tmp_path / "metrics.json"
    asked = ("--metrics=fd", "--count=8", "--steps=2")
    result = call("evaluate", f"--run={folder}", *asked, f"--out={out}")
    assert "name a folder of gen_jax.prepare as --data" in one_line_error(result)
    result = call("evaluate", f"--run={folder}", f"--data={photos}", *asked, f"--out={out}")
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(out.read_text())["ldm/fd_untrained"] > 0
    assert sorted(folder.rglob("*")) == before


def every_scheduler():
    """The schedulers of each kind; of SD 2 and its prediction type, one runs in CI."""
    for name in tiny_pipelines.script().SCHEDULERS:
        for kind in KINDS:
            mark = pytest.mark.slow if (kind == "sd1" or name == "ddim") else pytest.mark.nightly
            yield pytest.param(name, kind, marks=mark)


@pytest.mark.parametrize("name,kind", every_scheduler())
def test_every_scheduler_gives_the_latents_of_diffusers(models, name, kind):
    """One program per scheduler: half of its batch is guided, and half is not."""
    script, golden = tiny_pipelines.script(), tiny_pipelines.golden()
    model = models[kind]
    task, params = model.task, model.variables["params"]["model"]
    config = script.scheduler_config(name, task.process.prediction_type)
    scheduler = scheduler_config.from_diffusers(config, "scheduler_config.json")
    options = samplers.SamplerOptions(**scheduler.options)
    tokenizer, count = model.tokenizer(), len(script.PROMPTS)

    def states(prompts):
        ids = jnp.asarray(tokenizer.encode(prompts * 2, 12).ids)
        mask = jnp.ones(ids.shape, bool)
        out, _ = text.encode(task.text_encoder, params, model.frozen, ids, mask)
        return {"encoder_hidden_states": out}

    cond = states(list(script.PROMPTS))
    negative = states([script.NEGATIVE] * count)
    scales = jnp.repeat(jnp.array(script.GUIDANCE), count)
    latents, noise = script.draws()

    @jax.jit
    def run(params, x_T, noise):
        def denoise(x, t, cond):
            time = task.process.model_time(t)
            return task.unet.apply({"params": params["unet"]}, x, time, **cond)

        fn = guidance.guided_batched(denoise, cond, negative, scales)
        given = dict(options=options, noise=noise)
        return samplers.sample(fn, x_T, task.process, script.STEPS, scheduler.sampler, **given)

    x_T = latents * samplers.noise_scale(task.process, script.STEPS, scheduler.sampler, options)
    got = run(params, np.concatenate([x_T] * 2), np.concatenate([noise] * 2, axis=1))
    for scale, part in zip(script.GUIDANCE, (got[:count], got[count:])):
        worst = difference(part, golden[f"{kind}/{name}/{scale}/latents"])
        print(f"{kind} {name}, guidance {scale}: {worst:.1e} relative")
        assert worst < TOLERANCE
    if (pixels := golden.get(f"{kind}/{name}/7.5/pixels")) is not None:
        decode = functools.partial(first_stage.decode, task.autoencoder)
        images = first_stage.to_images(decode(model.frozen["vae"], got[:count]))["image"]
        assert np.abs(np.asarray(images).astype(int) - pixels).max() <= 1


def test_the_command_samples_from_a_pipeline(tmp_path):
    folder = tiny_pipelines.write(tmp_path / "sd2", "sd2")
    out = tmp_path / "out"
    asked = ("--prompt=a cat", "--num=1", "--steps=2", "--guidance=3", "--dtype=bfloat16")
    result = call("generate", f"--run={folder}", *asked, f"--out={out}")
    assert result.returncode == 0, result.stderr[-3000:]
    manifest = json.loads((out / "00000.json").read_text())
    model = reader.load(str(folder), dtype="bfloat16")
    assert (model.task.unet.dtype, model.task.text_encoder.tower.dtype) == (jnp.bfloat16,) * 2
    assert manifest["weights_sha256"] == model.digest
    assert manifest["frozen_weights_sha256"] == model.frozen_digests
    assert set(model.frozen_digests) == {"text", "vae"}
    assert (manifest["sampler"], manifest["num_inference_steps"]) == ("pndm", 2)
