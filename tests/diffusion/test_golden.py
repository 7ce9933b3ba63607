"""Schedules, samplers and guidance against diffusers (tests/golden/make_diffusion.py)."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.diffusion import combine, make_process, predictions, sample
from gen_jax.diffusion.schedules import expand, tables

GOLDEN = np.load(pathlib.Path(__file__).parent.parent / "golden" / "diffusion.npz")
CASES = json.loads(str(GOLDEN["cases"]))
TOLERANCE = 1e-4
PROCESS_KEYS = ("schedule", "prediction_type", "rescale_zero_terminal_snr", "shift")


def toy_denoiser(process, whole_times):
    """The same exact denoiser of a mixture of N(-1, 0.3^2) and N(1, 0.3^2) as the script's."""

    def denoise(x, t):
        t = t.astype(jnp.int32) if whole_times else t  # compiles in half the time
        alpha, sigma = expand(process.alpha(t), x.ndim), expand(process.sigma(t), x.ndim)
        total = alpha**2 * 0.09 + sigma**2
        x_0 = 0.09 * alpha / total * x
        x_0 = x_0 + (1 - 0.09 * alpha**2 / total) * jnp.tanh(alpha * x / total)
        eps = (x - alpha * x_0) / sigma
        return predictions.target(x_0, eps, alpha, sigma, process.prediction_type)

    return denoise


def describe(case):
    return "-".join(str(v) if not isinstance(v, list) else f"{len(v)}t" for v in case.values())


@pytest.mark.parametrize("index", range(len(CASES)), ids=[describe(c) for c in CASES])
def test_sampler_agrees_with_diffusers(index):
    case = dict(CASES[index])
    built = {key: case.pop(key) for key in PROCESS_KEYS if key in case}
    process = make_process(**({"prediction_type": "flow"} | built))
    between = case.get("timestep_spacing") == "linspace" or "use_karras_sigmas" in case
    denoise = toy_denoiser(process, whole_times=not (between or process.is_flow))
    x_T, noise = jnp.asarray(GOLDEN["x_T"]), jnp.asarray(GOLDEN["noise"])
    ours = sample(denoise, x_T, process, noise=noise, **case)
    print(f"largest difference {np.abs(ours - GOLDEN['results'][index]).max():.1e}")
    np.testing.assert_allclose(ours, GOLDEN["results"][index], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["scaled_linear", "linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero", [False, True])
def test_schedule_agrees_with_diffusers(name, zero):
    process = make_process(name, "v_prediction", rescale_zero_terminal_snr=zero)
    alpha, sigma, _ = tables(process)
    theirs = GOLDEN[f"alpha_bar/{name}/{int(zero)}"]
    np.testing.assert_allclose(alpha**2, theirs, atol=1e-6)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-12)
    assert (alpha[-1] == 0) == zero


def test_noising_and_velocity_agree_with_diffusers():
    process = make_process("scaled_linear", "v_prediction")
    x_0, eps = jnp.asarray(GOLDEN["noise"][0]), jnp.asarray(GOLDEN["noise"][1])
    t = jnp.asarray(GOLDEN["t"])
    np.testing.assert_allclose(process.add_noise(x_0, eps, t), GOLDEN["x_t"], atol=1e-5)
    np.testing.assert_allclose(process.target(x_0, eps, t), GOLDEN["velocity"], atol=1e-5)


def test_guidance_rescale_agrees_with_diffusers():
    cond, uncond = jnp.asarray(GOLDEN["noise"][2]), jnp.asarray(GOLDEN["noise"][3])
    np.testing.assert_allclose(combine(cond, uncond, 7.5, 0.7), GOLDEN["guided"], atol=1e-5)
