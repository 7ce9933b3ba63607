"""Writes schedulers.npz: scheduler configs, and what diffusers' pipelines do with them.

Run with diffusers 0.42 and torch installed: `python tests/golden/make_schedulers.py`. The data
are an even mixture of N(-0.5, 0.7^2) and N(0.5, 0.7^2) in every coordinate, whose best denoiser is
known. A run with `first_step` starts from a noised image as image-to-image pipelines do.
"""

import contextlib
import json
import logging
import pathlib
from unittest import mock

import diffusers
import numpy as np
import torch
from diffusers.schedulers import (
    scheduling_ddim,
    scheduling_ddpm,
    scheduling_euler_ancestral_discrete,
    scheduling_lcm,
)

SHAPE = (6, 4)
LATENT = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    trained_betas=None,
)
# The scheduler of the releases 1.1 to 1.5, and of 2.1 at 768 pixels.
SD_1 = dict(
    _class_name="PNDMScheduler",
    _diffusers_version="0.6.0",
    **LATENT,
    set_alpha_to_one=False,
    skip_prk_steps=True,
    steps_offset=1,
    clip_sample=False,
)
SD_2 = SD_1 | dict(_class_name="DDIMScheduler", prediction_type="v_prediction")
ZERO_SNR = dict(
    rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
)
WITH_NOISE = (
    scheduling_ddim,
    scheduling_ddpm,
    scheduling_euler_ancestral_discrete,
    scheduling_lcm,
)


def configs():
    """Yields every config with its runs, pairs of num_steps and first_step."""

    def of(name, base=LATENT, **values):
        return {**base, **values, "_class_name": f"{name}Scheduler"}

    v = dict(prediction_type="v_prediction")
    leading, trailing, linspace = (
        dict(timestep_spacing=s) for s in ("leading", "trailing", "linspace")
    )
    runs = [(5, 0), (10, 0), (10, 3)]  # 5 steps of linspace are at fractions of indices
    yield SD_1, [(1, 0), (2, 0), (10, 0), (50, 0), (10, 1), (10, 2), (10, 6)]
    yield of("PNDM", skip_prk_steps=True, set_alpha_to_one=True, **v), [(4, 0), (10, 0), (10, 5)]
    yield of("PNDM", **trailing), [(4, 0), (10, 0), (10, 3)]
    yield of("PNDM", steps_offset=1, **v), [(20, 0), (20, 4), (20, 15)]
    yield of("PNDM", skip_prk_steps=True, **trailing), [(7, 0), (7, 2)]
    yield of("PNDM", skip_prk_steps=True, **linspace), [(7, 0)]
    yield SD_2, [*runs, (50, 0)]
    yield of("DDIM", {}), runs
    yield of("DDIM", clip_sample=False, **ZERO_SNR), [(7, 0), (10, 0), (7, 2)]
    yield of("DDIM", clip_sample_range=0.8, eta=0.6, **linspace), runs
    yield of("DDPM", {}), runs
    yield of("DDPM", SD_2), runs
    yield of("DDPM", clip_sample=False, prediction_type="sample", **trailing), [(7, 0), (7, 2)]
    yield of("DDPM", clip_sample=False, variance_type="fixed_small_log", **linspace), [(7, 0)]
    yield of("EulerDiscrete", SD_1, **leading), runs
    yield of("EulerDiscrete", SD_2), runs
    yield of("EulerDiscrete", use_karras_sigmas=True, final_sigmas_type="sigma_min"), runs
    yield of("EulerDiscrete", **ZERO_SNR), [(7, 0), (10, 3)]
    yield of("EulerAncestralDiscrete", SD_1, **leading), runs
    yield of("EulerAncestralDiscrete", SD_2), runs
    yield of("EulerAncestralDiscrete", **ZERO_SNR), [(7, 0), (10, 3)]
    yield of("HeunDiscrete", SD_1, **leading), runs
    yield of("HeunDiscrete", {}, use_karras_sigmas=True), runs
    yield of("HeunDiscrete", clip_sample=True, clip_sample_range=0.8, **trailing, **v), runs
    yield of("DPMSolverMultistep", SD_1), [*runs, (20, 15)]
    yield of("DPMSolverMultistep", SD_2, **leading, use_karras_sigmas=True), runs
    yield (
        of("DPMSolverMultistep", final_sigmas_type="sigma_min", lambda_min_clipped=-5.1),
        [(10, 0), (20, 0), (20, 10)],
    )
    yield of("DPMSolverMultistep", final_sigmas_type="sigma_min", lower_order_final=False), runs
    yield of("DPMSolverMultistep", euler_at_final=True, solver_type="bh2", **ZERO_SNR), runs
    yield of("UniPCMultistep", SD_1), runs
    yield of("UniPCMultistep", SD_2, **leading, use_karras_sigmas=True), runs
    yield of("UniPCMultistep", final_sigmas_type="sigma_min", lower_order_final=False), runs
    yield of("UniPCMultistep", use_karras_sigmas=True, final_sigmas_type="sigma_min"), runs
    yield of("UniPCMultistep", solver_type="midpoint", **ZERO_SNR), runs
    yield of("LCM", SD_1), [(1, 0), (4, 0), (8, 0), (8, 3), (8, 7)]
    yield (
        of("LCM", {}, original_inference_steps=30, timestep_scaling=0.01, clip_sample=True, **v),
        [(4, 0), (7, 2)],
    )
    yield of("LCM", **ZERO_SNR), [(4, 0)]


def inputs():
    """Returns an image, noise that a run starts with, and the noise of its steps."""
    random = np.random.RandomState(1)
    return (random.randn(*shape).astype(np.float32) for shape in (SHAPE, SHAPE, (20, *SHAPE)))


def toy_output(x, alpha, sigma, prediction_type):
    """The exact output at x for the mixture above, in float64."""
    x, mean, variance = x.double(), 0.5, 0.7**2
    total = alpha**2 * variance + sigma**2
    x_0 = variance * alpha / total * x
    x_0 = x_0 + (1 - variance * alpha**2 / total) * mean * torch.tanh(alpha * mean * x / total)
    eps = (x - alpha * x_0) / sigma
    kinds = {"epsilon": eps, "sample": x_0, "v_prediction": alpha * eps - sigma * x_0}
    return kinds[prediction_type].float()


def run(config, num_steps, first_step):
    """Returns the latents that a pipeline would decode."""
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    image, start, noise = (torch.from_numpy(a) for a in inputs())
    scheduler.set_timesteps(num_steps)
    begin = first_step * scheduler.order
    timesteps = scheduler.timesteps[begin:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    if first_step:
        x = scheduler.add_noise(image, start, timesteps[:1])
    else:
        x = start * scheduler.init_noise_sigma
    alpha_bar = scheduler.alphas_cumprod.double().numpy()
    ratios = np.sqrt((1 - alpha_bar) / np.maximum(alpha_bar, 2.0**-24))
    extra = {"eta": config["eta"]} if "eta" in config else {}
    draws = iter(noise)
    for t in timesteps:
        ratio = np.interp(float(t), range(len(ratios)), ratios)
        alpha = 1 / np.sqrt(1 + ratio**2)
        scaled = scheduler.scale_model_input(x, t)
        output = toy_output(scaled, alpha, ratio * alpha, scheduler.config.prediction_type)
        with contextlib.ExitStack() as patches:
            for module in WITH_NOISE:
                drawn = mock.patch.object(module, "randn_tensor", lambda *_, **__: next(draws))
                patches.enter_context(drawn)
            x = scheduler.step(output, t, x, **extra).prev_sample
    return x.numpy()


def golden_files() -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of the golden file by its name."""
    listed, results = [], []
    for config, runs in configs():
        for num_steps, first_step in runs:
            listed.append(dict(config=config, num_steps=num_steps, first_step=first_step))
            results.append(run(config, num_steps, first_step))
    return {"schedulers": dict(cases=np.array(json.dumps(listed)), results=np.stack(results))}


def main():
    """Writes the file beside this script."""
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    arrays = golden_files()["schedulers"]
    np.savez_compressed(pathlib.Path(__file__).with_name("schedulers.npz"), **arrays)
    print(len(arrays["results"]), "cases, finite:", bool(np.isfinite(arrays["results"]).all()))


if __name__ == "__main__":
    main()
