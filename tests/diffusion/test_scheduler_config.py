"""Scheduler configs: defaults, refusals, and what is written reads back the same."""

import json
import pathlib

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.diffusion import SAMPLERS, make_process
from gen_jax.diffusion.samplers import SamplerOptions
from gen_jax.diffusion.scheduler_config import from_diffusers, to_diffusers

WHERE = "scheduler/scheduler_config.json"
GOLDEN = np.load(pathlib.Path(__file__).parent.parent / "golden" / "schedulers.npz")
CONFIGS = {json.dumps(case["config"]): case["config"] for case in json.loads(str(GOLDEN["cases"]))}
SD_1 = next(iter(CONFIGS.values()))


def read(name, **values):
    return from_diffusers({"_class_name": f"{name}Scheduler", **values}, WHERE)


def test_the_config_of_stable_diffusion_1():
    assert SD_1["_class_name"] == "PNDMScheduler"
    scheduler = from_diffusers(SD_1, WHERE)
    assert scheduler.sampler == "pndm"
    assert scheduler.options == {
        "timestep_spacing": "leading",
        "steps_offset": 1,
        "skip_prk_steps": True,
        "final_sigmas_type": "sigma_min",
    }
    assert make_process(**scheduler.process) == make_process("scaled_linear", "epsilon")


@pytest.mark.parametrize(
    "name, spacing, betas, options",
    [
        ("DDPM", "leading", (1e-4, 0.02), dict(clip_x_0=1.0)),
        ("DDIM", "leading", (1e-4, 0.02), dict(clip_x_0=1.0, final_sigmas_type="zero", eta=0.0)),
        (
            "PNDM",
            "leading",
            (1e-4, 0.02),
            dict(final_sigmas_type="sigma_min", skip_prk_steps=False),
        ),
        ("EulerDiscrete", "linspace", (1e-4, 0.02), dict(sigma_scaled=True)),
        ("EulerAncestralDiscrete", "linspace", (1e-4, 0.02), dict(sigma_scaled=True)),
        ("HeunDiscrete", "linspace", (0.00085, 0.012), dict(sigma_scaled=True)),
        ("DPMSolverMultistep", "linspace", (1e-4, 0.02), dict(lower_order_final=True)),
        ("UniPCMultistep", "linspace", (1e-4, 0.02), dict(lower_order_final=True)),
        ("LCM", "leading", (0.00085, 0.012), dict(original_inference_steps=50)),
    ],
)
def test_missing_keys_have_the_defaults_of_their_class(name, spacing, betas, options):
    scheduler = read(name)
    process = make_process(**scheduler.process)
    assert (process.beta_start, process.beta_end) == betas
    assert process.schedule == ("scaled_linear" if name == "LCM" else "linear")
    assert scheduler.options["timestep_spacing"] == spacing
    assert options.items() <= scheduler.options.items()
    assert ("clip_x_0" in scheduler.options) == ("clip_x_0" in options)


@pytest.mark.parametrize(
    "config", CONFIGS.values(), ids=[c["_class_name"] for c in CONFIGS.values()]
)
def test_a_config_that_is_read_is_written_the_same(config):
    scheduler = from_diffusers(config, WHERE)
    process, options = make_process(**scheduler.process), SamplerOptions(**scheduler.options)
    written = to_diffusers(process, scheduler.sampler, options)
    again = from_diffusers(json.loads(json.dumps(written)), WHERE)
    assert again == scheduler
    # Only `eta` has no key in diffusers.
    assert written.get("_gen_jax", {}).keys() <= {"eta"}
    assert written["_class_name"] == config["_class_name"]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    "options",
    [
        SamplerOptions(),
        SamplerOptions(eta=0.5, timestep_spacing="leading", steps_offset=1, skip_prk_steps=False),
    ],
    ids=["default", "other"],
)
def test_options_that_are_written_are_read_the_same(sampler, options):
    process = make_process("linear", "v_prediction", 500, 0.0002, 0.03)
    written = to_diffusers(process, sampler, options)
    assert all(key.startswith("_") or key in KEYS for key in written)
    scheduler = from_diffusers(json.loads(json.dumps(written)), WHERE)
    assert scheduler.sampler == sampler
    assert make_process(**scheduler.process) == process
    assert SamplerOptions(**scheduler.options) == options


KEYS = {
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
    *("prediction_type", "timestep_spacing", "steps_offset", "set_alpha_to_one", "clip_sample"),
    *("clip_sample_range", "skip_prk_steps", "rescale_betas_zero_snr", "use_karras_sigmas"),
    *("final_sigmas_type", "lower_order_final", "original_inference_steps", "timestep_scaling"),
}


@pytest.mark.parametrize(
    "name, values, message",
    [
        ("EDMEuler", {}, "_class_name='EDMEulerScheduler': expected one of DDPMScheduler"),
        (
            "DDIM",
            dict(trained_betas=[0.1] * 99),
            r"trained_betas=\[.*\.\.\. of DDIMScheduler .*None",
        ),
        ("DDIM", dict(beta_schedule="exp"), "beta_schedule='exp' .* expected 'linear' or"),
        ("DDIM", dict(thresholding=True), "thresholding=True of DDIMScheduler .*expected False"),
        (
            "DDIM",
            dict(timestep_spacing="even"),
            "timestep_spacing='even' .* 'trailing' or",
        ),
        ("DDIM", dict(num_train_timesteps=1000.5), "num_train_timesteps=1000.5 .*a whole number"),
        ("DDIM", dict(clip_sample="yes"), "clip_sample='yes' of DDIMScheduler: expected true"),
        ("DDIM", dict(eta=True), "eta=True of DDIMScheduler: expected a number"),
        ("DDIM", dict(eta=2.0), "sampler_options.eta=2.0"),
        ("DDIM", dict(beta_start=0.5, beta_end=0.1), "beta_start=0.5, beta_end=0.1: expected"),
        ("DDIM", dict(rescale_betas_zero_snr=True), "prediction_type='epsilon': x_0 cannot"),
        ("DDIM", dict(clip_sampel=True), "clip_sampel=True: no scheduler has this key"),
        ("DDPM", dict(variance_type="learned"), "variance_type='learned' .*'fixed_small'"),
        ("PNDM", dict(prediction_type="sample"), "prediction_type='sample' of PNDMScheduler"),
        ("EulerDiscrete", dict(timestep_type="continuous"), "timestep_type='continuous'"),
        ("EulerDiscrete", dict(interpolation_type="log_linear"), "interpolation_type="),
        ("EulerDiscrete", dict(use_beta_sigmas=True), "use_beta_sigmas=True"),
        ("EulerDiscrete", dict(sigma_max=80.0), "sigma_max=80.0 of EulerDiscreteScheduler"),
        ("HeunDiscrete", dict(use_exponential_sigmas=True), "use_exponential_sigmas=True"),
        ("DPMSolverMultistep", dict(solver_order=1), "solver_order=1 .*expected 2"),
        ("DPMSolverMultistep", dict(solver_order=3), "solver_order=3 .*expected 2"),
        ("DPMSolverMultistep", dict(algorithm_type="sde-dpmsolver++"), "algorithm_type="),
        ("DPMSolverMultistep", dict(solver_type="heun"), "solver_type='heun'"),
        ("DPMSolverMultistep", dict(use_lu_lambdas=True), "use_lu_lambdas=True"),
        ("DPMSolverMultistep", dict(use_flow_sigmas=True), "use_flow_sigmas=True"),
        ("DPMSolverMultistep", dict(variance_type="learned_range"), "variance_type="),
        (
            "DPMSolverMultistep",
            dict(lambda_min_clipped=-2.0),
            "lambda_min_clipped=-2.0 .*at most",
        ),
        (
            "DPMSolverMultistep",
            dict(euler_at_final=True, final_sigmas_type="sigma_min"),
            "euler_at_final=True of DPMSolverMultistepScheduler",
        ),
        ("UniPCMultistep", dict(solver_order=3), "solver_order=3 .*expected 2"),
        ("UniPCMultistep", dict(solver_type="bh1"), "solver_type='bh1'"),
        ("UniPCMultistep", dict(predict_x0=False), "predict_x0=False .*expected True"),
        ("UniPCMultistep", dict(disable_corrector=[0]), r"disable_corrector=\[0\]"),
        ("LCM", dict(_gen_jax={"etta": 1}), "etta"),
        ("LCM", dict(original_inference_steps=0), "original_inference_steps=0: expected"),
    ],
)
def test_refusals_name_the_file_and_the_key(name, values, message):
    with pytest.raises(UserError, match=f"^{WHERE}: .*{message}") as error:
        read(name, **values)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_what_is_off_or_has_no_effect_is_accepted():
    plain = read("EulerDiscrete")
    extras = dict(
        **dict(use_beta_sigmas=None, use_karras_sigmas=None, sigma_min=None, made_up=False),
        **dict(_diffusers_version="0.9.0", _anything=[1]),
        # Keys of other schedulers, which diffusers' Euler does not read.
        **dict(skip_prk_steps=True, set_alpha_to_one=False, sample_max_value=1.0, clip_sample=True),
    )
    assert read("EulerDiscrete", **extras) == plain
    # Diffusers takes its own defaults for the keys that it says to have filled in.
    filled = dict(timestep_spacing="trailing", _use_default_values=["timestep_spacing"])
    assert read("EulerDiscrete", **filled) == plain
    with pytest.raises(UserError, match=f"^{WHERE}: _class_name={{}}: expected one of DDPM"):
        from_diffusers({"_class_name": {}}, WHERE)
    assert from_diffusers({"_class_name": ["mine", "EulerDiscreteScheduler"]}, WHERE) == plain
    assert read("DPMSolverMultistep", euler_at_final=True) == read("DPMSolverMultistep")


@pytest.mark.parametrize(
    "process, sampler, options, message",
    [
        (dict(schedule="flow", prediction_type="flow"), "euler", {}, "beta_schedule='flow'"),
        (dict(prediction_type="flow"), "euler", {}, "prediction_type='flow' of EulerDiscrete"),
        (
            dict(prediction_type="v_prediction", rescale_zero_terminal_snr=True),
            "heun",
            {},
            "sampler='heun': HeunDiscreteScheduler has no rescale_betas_zero_snr",
        ),
        ({}, "ddim", dict(use_karras_sigmas=True), "DDIMScheduler has no use_karras_sigmas"),
        ({}, "unipc", dict(clip_x_0=1.0), "UniPCMultistepScheduler has no clip_sample"),
        ({}, "heun", dict(final_sigmas_type="sigma_min"), "HeunDiscreteScheduler has no final_"),
        ({}, "plms", {}, "sampler='plms': expected one of"),
    ],
)
def test_what_diffusers_cannot_do_is_not_written(process, sampler, options, message):
    with pytest.raises(UserError, match=message):
        to_diffusers(make_process(**process), sampler, SamplerOptions(**options))
