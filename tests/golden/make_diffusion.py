"""Writes diffusion.npz: what diffusers' schedulers do with an exact toy denoiser.

Run with diffusers 0.42 and torch installed: `python tests/golden/make_diffusion.py`.
The data are an even mixture of N(-1, 0.3^2) and N(1, 0.3^2) in every coordinate,
whose best denoiser is known, so that the sampled paths stay well conditioned.
"""

import contextlib
import itertools
import json
import pathlib
from unittest import mock

import diffusers
import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm

SHAPE = (6, 4)
BETAS = {
    "scaled_linear": dict(beta_start=0.00085, beta_end=0.012),
    "linear": dict(beta_start=0.0001, beta_end=0.02),
    "squaredcos_cap_v2": {},
}
CLASSES = {
    "ddpm": diffusers.DDPMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
}


def toy_output(x, alpha, sigma, prediction_type):
    """The exact output at x for the mixture above, in float64."""
    x, variance = x.double(), 0.3**2
    total = alpha**2 * variance + sigma**2
    x_0 = variance * alpha / total * x
    x_0 = x_0 + (1 - variance * alpha**2 / total) * torch.tanh(alpha * x / total)
    eps = (x - alpha * x_0) / sigma
    kinds = {
        "epsilon": eps,
        "sample": x_0,
        "v_prediction": alpha * eps - sigma * x_0,
        "flow": eps - x_0,
    }
    return kinds[prediction_type].float()


def scheduler_for(case):
    """The scheduler that a case (the arguments of ours) asks for."""
    options = dict(timestep_spacing=case.get("timestep_spacing", "trailing"))
    if case["sampler"] in ("ddpm", "ddim"):
        options["clip_sample"] = "clip_x_0" in case
        options["clip_sample_range"] = case.get("clip_x_0", 1.0)
    for ours, theirs in (
        ("steps_offset", "steps_offset"),
        ("use_karras_sigmas", "use_karras_sigmas"),
        ("final_sigmas_type", "final_sigmas_type"),
        ("lower_order_final", "lower_order_final"),
        ("rescale_zero_terminal_snr", "rescale_betas_zero_snr"),
    ):
        if ours in case:
            options[theirs] = case[ours]
    if case["sampler"] == "ddim" and options.pop("final_sigmas_type", "zero") == "sigma_min":
        options["set_alpha_to_one"] = False
    return CLASSES[case["sampler"]](
        beta_schedule=case["schedule"],
        prediction_type=case["prediction_type"],
        **BETAS[case["schedule"]],
        **options,
    )


def given(draws):
    """Returns a `randn_tensor` that takes the next of `draws` instead of drawing."""
    return lambda *_, **__: torch.from_numpy(next(draws))


def run(case, x_T, noise):
    """The result of one case, at the scale of x_t = alpha x_0 + sigma eps."""
    scheduler = scheduler_for(case)
    scheduler.set_timesteps(case["num_steps"])
    alpha_bar = scheduler.alphas_cumprod.double().numpy()
    ratios = np.sqrt((1 - alpha_bar) / np.maximum(alpha_bar, 1e-30))
    steps = range(len(alpha_bar))
    divided = case["sampler"] in ("euler", "heun")  # these work with x / alpha
    draws = iter(noise)
    x = torch.from_numpy(x_T)
    if divided:
        x = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    for t in scheduler.timesteps:
        ratio = np.interp(float(t), steps, ratios)
        alpha = 1 / np.sqrt(1 + ratio**2)
        scaled = scheduler.scale_model_input(x, t)
        output = toy_output(scaled, alpha, ratio * alpha, case["prediction_type"])
        extra = {"eta": case["eta"]} if "eta" in case else {}
        with contextlib.ExitStack() as patches:
            for module in (scheduling_ddpm, scheduling_ddim):
                patches.enter_context(mock.patch.object(module, "randn_tensor", given(draws)))
            x = scheduler.step(output, t, x, **extra).prev_sample
    if divided and case.get("final_sigmas_type") == "sigma_min":
        x = x / (scheduler.sigmas[-1] ** 2 + 1) ** 0.5
    return x.numpy()


def run_flow(case, x_T):
    """Likewise for a flow; the times that the scheduler chose go into the case."""
    if case["sampler"] == "euler":
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=case["shift"])
    elif case["sampler"] == "heun":
        scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=case["shift"])
    else:
        scheduler = CLASSES[case["sampler"]](
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=case["shift"]
        )
    scheduler.set_timesteps(case["num_steps"])
    if case["sampler"] == "unipc":
        # Its times are whole numbers and may coincide: step by position instead.
        scheduler.set_begin_index(0)
    case["timesteps"] = sorted({float(s) for s in scheduler.sigmas[:-1]}, reverse=True)
    x = torch.from_numpy(x_T)
    for i, t in enumerate(scheduler.timesteps):
        # Heun's sigmas are listed as s0 s1 s1 s2 s2 ..., and so are its times.
        sigma = float(t) / 1000 if case["sampler"] == "heun" else float(scheduler.sigmas[i])
        x = scheduler.step(toy_output(x, 1 - sigma, sigma, "flow"), t, x).prev_sample
    return x.numpy()


def cases():
    """Every case, as the arguments of make_process and sample."""
    types = ("epsilon", "v_prediction")
    for sampler, kind, steps in itertools.product(CLASSES, types, (5, 20)):
        yield dict(sampler=sampler, schedule="scaled_linear", prediction_type=kind, num_steps=steps)
    for sampler, schedule in itertools.product(CLASSES, ("linear", "squaredcos_cap_v2")):
        # At the cosine's last time x / alpha is 20,000 x and float32 leaves these two 1e-4
        # (euler) and 0.2 (heun) away from the same sums in float64: start them later.
        late = schedule == "squaredcos_cap_v2" and sampler in ("euler", "heun")
        yield dict(
            sampler=sampler,
            schedule=schedule,
            prediction_type="v_prediction",
            num_steps=10,
            timestep_spacing="leading" if late else "trailing",
        )
    yield dict(sampler="ddim", schedule="linear", prediction_type="epsilon", num_steps=10)
    for sampler, spacing in itertools.product(CLASSES, ("leading", "linspace")):
        if (sampler, spacing) == ("ddim", "linspace"):
            continue  # diffusers then steps to t - T // n, which is not the next time
        for kind in ("epsilon", "sample"):
            yield dict(
                sampler=sampler,
                schedule="scaled_linear",
                prediction_type=kind,
                num_steps=10,
                timestep_spacing=spacing,
                steps_offset=1 if spacing == "leading" else 0,
            )
    for sampler in ("ddpm", "ddim", "euler", "dpmpp_2m", "unipc"):
        yield dict(
            sampler=sampler,
            schedule="scaled_linear",
            prediction_type="v_prediction",
            num_steps=20,
            rescale_zero_terminal_snr=True,
        )
    for sampler in ("euler", "heun", "dpmpp_2m", "unipc"):
        yield dict(
            sampler=sampler,
            schedule="scaled_linear",
            prediction_type="epsilon",
            num_steps=12,
            use_karras_sigmas=True,
        )
    for sampler, final in itertools.product(("ddim", "euler", "dpmpp_2m", "unipc"), (True, False)):
        last = dict(final_sigmas_type="sigma_min")
        if sampler in ("dpmpp_2m", "unipc"):
            last["lower_order_final"] = final
        yield dict(
            sampler=sampler,
            schedule="scaled_linear",
            prediction_type="epsilon",
            num_steps=10,
            timestep_spacing="linspace" if sampler != "ddim" else "leading",
            **last,
        )
    for eta in (0.5, 1.0):
        yield dict(
            sampler="ddim",
            schedule="scaled_linear",
            prediction_type="epsilon",
            num_steps=20,
            eta=eta,
        )
    yield dict(
        sampler="ddpm",
        schedule="linear",
        prediction_type="epsilon",
        num_steps=10,
        timestep_spacing="leading",
        clip_x_0=1.0,
    )


def flow_cases():
    for sampler, steps, shift in itertools.product(
        ("euler", "heun", "dpmpp_2m", "unipc"), (5, 20), (1.0, 3.0)
    ):
        yield dict(sampler=sampler, schedule="flow", num_steps=steps, shift=shift)


def schedules():
    """alphas_cumprod of every schedule, plain and with zero terminal SNR."""
    for name, betas in BETAS.items():
        for zero in (False, True):
            scheduler = diffusers.DDPMScheduler(
                beta_schedule=name, rescale_betas_zero_snr=zero, **betas
            )
            yield f"alpha_bar/{name}/{int(zero)}", scheduler.alphas_cumprod.numpy()


def golden_files() -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of the golden file by its name."""
    random = np.random.RandomState(0)
    x_T = random.randn(*SHAPE).astype(np.float32)
    noise = random.randn(20, *SHAPE).astype(np.float32)
    ddpm = diffusers.DDPMScheduler(beta_schedule="scaled_linear", **BETAS["scaled_linear"])
    t = torch.tensor([0, 1, 250, 500, 998, 999])
    x_0, eps = torch.from_numpy(noise[0]), torch.from_numpy(noise[1])
    listed, results = [], []
    for case in cases():
        listed.append(case)
        results.append(run(case, x_T, noise))
    for case in flow_cases():
        results.append(run_flow(case, x_T))
        listed.append(case)
    c, u = torch.from_numpy(noise[2]), torch.from_numpy(noise[3])
    arrays = dict(
        cases=np.array(json.dumps(listed)),
        x_T=x_T,
        noise=noise,
        results=np.stack(results),
        t=t.numpy(),
        x_t=ddpm.add_noise(x_0, eps, t).numpy(),
        velocity=ddpm.get_velocity(x_0, eps, t).numpy(),
        guided=rescale_noise_cfg(u + 7.5 * (c - u), c, guidance_rescale=0.7).numpy(),
        **dict(schedules()),
    )
    return {"diffusion": arrays}


def main():
    """Writes the file beside this script."""
    arrays = golden_files()["diffusion"]
    np.savez_compressed(pathlib.Path(__file__).with_name("diffusion.npz"), **arrays)
    print(len(json.loads(str(arrays["cases"]))), "cases")


if __name__ == "__main__":
    main()
