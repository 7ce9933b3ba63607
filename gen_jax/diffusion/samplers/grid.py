"""The times a sampler visits, with alpha and sigma at each, in float64 NumPy."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.diffusion.samplers.options import DEFAULTS, SamplerOptions
from gen_jax.diffusion.schedules import Process, shifted, tables

# Solvers of the DPM family lay n + 1 points and leave the last to the clean end.
_DROPS_LAST = ("dpmpp_2m", "unipc")
# These step between indices rather than at the nearest one, as diffusers' do.
_FRACTIONAL = ("euler", "euler_ancestral", "heun")
# These never divide by alpha, so that they can start at exactly 0.
_FROM_ALPHA_0 = ("ddpm", "ddim", "pndm", "lcm")
# These are defined by indices of a discrete schedule.
_DISCRETE = ("pndm", "lcm")
_KARRAS_RHO = 7.0


@dataclasses.dataclass(frozen=True)
class Grid:
    """n model calls and n + 1 states, from noise to image.

    Attributes:
        t: [n] the times of the model calls, in the process's units, decreasing.
        alpha: [n + 1] the signal's coefficient; the last is the result's, 1 if clean.
        sigma: [n + 1] the noise's coefficient; the last is the result's, 0 if clean.
    """

    t: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray


def make_grid(
    process: Process,
    num_steps: int,
    sampler: str,
    options: SamplerOptions = DEFAULTS,
    timesteps: Sequence[float | int] | None = None,
) -> Grid:
    """Lays out the times; the arguments are those of `sample`."""
    if process.is_flow and sampler in _DISCRETE:
        raise UserError(f"sampler={sampler!r}: not defined for schedule='flow', choose another")
    if timesteps is not None:
        t = np.asarray(timesteps, np.float64)
        top = 1.0 if process.is_flow else process.num_train_timesteps - 1
        if t.ndim != 1 or not len(t) or np.any(np.diff(t) >= 0) or t[0] > top or t[-1] < 0:
            raise UserError(f"timesteps: expected decreasing times between {top} and 0")
    elif process.is_flow:
        t = _flow_times(process, num_steps, options.timestep_spacing)
    elif sampler == "lcm":
        t = _lcm_times(process, num_steps, options.original_inference_steps)
    else:
        t = _discrete_times(
            process, num_steps, sampler, options.timestep_spacing, options.steps_offset
        )
    if process.is_flow:
        if options.use_karras_sigmas:
            raise UserError("use_karras_sigmas: not defined for schedule='flow', use shift")
        if options.final_sigmas_type != "zero":
            raise UserError("final_sigmas_type: a flow ends at t = 0, expected 'zero'")
        return Grid(t, np.append(1 - t, 1.0), np.append(t, 0.0))

    alphas, sigmas, ratios = tables(process)
    index = np.arange(process.num_train_timesteps)
    ratio = np.interp(t, index, ratios)
    use_karras_sigmas = options.use_karras_sigmas and sampler not in _DISCRETE
    if use_karras_sigmas:
        # Equation 5 of arXiv 2206.00364. The DPM family spans the whole schedule.
        high, low = (ratios[-1], ratios[0]) if sampler in _DROPS_LAST else (ratio[0], ratio[-1])
        ramp = np.linspace(0, 1, len(t))
        root = 1 / _KARRAS_RHO
        ratio = (high**root + ramp * (low**root - high**root)) ** _KARRAS_RHO
        t = np.interp(np.log(ratio), np.log(ratios), index)
        cosine = process.schedule == "squaredcos_cap_v2"
        if sampler == "unipc" or (sampler == "dpmpp_2m" and not cosine):
            t = t.round()
    alpha = 1 / np.sqrt(1 + ratio**2)
    sigma = ratio * alpha
    if process.rescale_zero_terminal_snr and sampler in _FROM_ALPHA_0 and not use_karras_sigmas:
        alpha, sigma = np.where(t == index[-1], (alphas[-1:], sigmas[-1:]), (alpha, sigma))
    alpha, sigma = (np.append(a, end) for a, end in zip((alpha, sigma), end_of(process, options)))
    if sampler == "lcm":  # its last step returns the clean image whatever the option
        alpha[-1], sigma[-1] = 1.0, 0.0
    return Grid(t, alpha, sigma)


def end_of(process: Process, options: SamplerOptions) -> tuple[float, float]:
    """Returns alpha and sigma after the last step."""
    if options.final_sigmas_type == "zero":
        return 1.0, 0.0
    alphas, sigmas, _ = tables(process)
    return float(alphas[0]), float(sigmas[0])


def levels_at(process: Process, t: np.ndarray, options: SamplerOptions):
    """Returns alpha and sigma at whole times; negative ones lie after the last step."""
    alphas, sigmas, _ = tables(process)
    end = end_of(process, options)
    t = np.minimum(np.asarray(t, np.int64), process.num_train_timesteps - 1)
    return tuple(
        np.where(t >= 0, table[np.maximum(t, 0)], e) for table, e in zip((alphas, sigmas), end)
    )


def _discrete_times(process, num_steps, sampler, spacing, steps_offset):
    """Places times as in arXiv:2305.08891, table 2, and as each of diffusers' schedulers does."""
    total = process.num_train_timesteps
    extra = sampler in _DROPS_LAST
    if not 1 <= num_steps <= (total - extra if spacing == "leading" else total):
        raise UserError(f"num_steps={num_steps}: expected 1 to num_train_timesteps={total}")
    if spacing == "trailing":
        return np.round(total - np.arange(num_steps) * (total / num_steps)) - 1
    if spacing == "leading":
        points = np.arange(num_steps + extra) * (total // (num_steps + extra)) + steps_offset
        if points[-1] >= total:
            raise UserError(f"steps_offset={steps_offset}: the first step falls outside 0..{total}")
    elif spacing == "linspace":
        # One point alone is the noisiest, so that one step starts from noise.
        points = (
            np.linspace(0, total - 1, num_steps + extra) if num_steps + extra > 1 else [total - 1]
        )
        points = points if sampler in _FRACTIONAL else np.round(points)
    else:
        raise UserError(
            f"timestep_spacing={spacing!r}: expected one of leading, trailing, linspace"
        )
    return np.asarray(points, np.float64)[::-1][: len(points) - extra]


def _lcm_times(process, num_steps, original_inference_steps):
    """Picks evenly from the times of distillation, the noisiest first (arXiv:2310.04378)."""
    total, original = process.num_train_timesteps, original_inference_steps
    if original > total:
        raise UserError(
            f"original_inference_steps={original}: expected at most num_train_timesteps={total}"
        )
    if not 1 <= num_steps <= original:
        raise UserError(
            f"num_steps={num_steps}: expected 1 to original_inference_steps={original} with "
            "sampler='lcm'"
        )
    distilled = np.arange(original, 0, -1) * (total // original) - 1
    picks = np.floor(np.linspace(0, original, num_steps, endpoint=False))
    return distilled[picks.astype(np.int64)].astype(np.float64)


def _flow_times(process, num_steps, spacing):
    if num_steps < 1:
        raise UserError(f"num_steps={num_steps}: expected at least 1")
    if spacing == "trailing":
        t = 1 - np.arange(num_steps) / num_steps
    elif spacing == "linspace":
        t = np.linspace(1, 1 / process.num_train_timesteps, num_steps)
    else:
        raise UserError(
            f"timestep_spacing={spacing!r}: expected trailing or linspace with schedule='flow'"
        )
    return shifted(t, process.shift)
