"""Samplers: from noise x_T to an image x_0, given a denoise function.

    x_0 = sample(denoise_fn, x_T, process, num_steps=20, sampler="dpmpp_2m")

Each agrees with its namesake in diffusers, and all are jittable: `process` and
the options are static, and one compiled step is scanned over.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from gen_jax.common.errors import UserError
from gen_jax.diffusion import predictions
from gen_jax.diffusion.guidance import DenoiseFn
from gen_jax.diffusion.samplers import multistep, one_step, pndm
from gen_jax.diffusion.samplers.grid import Grid, levels_at, make_grid
from gen_jax.diffusion.samplers.known import Known
from gen_jax.diffusion.samplers.options import DEFAULTS, SamplerOptions
from gen_jax.diffusion.samplers.start import SIGMA_SCALED, noise_scale, noised
from gen_jax.diffusion.schedules import Process

_ONE_STEP = ("ddpm", "ddim", "euler", "euler_ancestral", "heun", "lcm")
_MULTISTEP = ("pndm", "dpmpp_2m", "unipc")
SAMPLERS = _ONE_STEP + _MULTISTEP
_NOISY = ("ddpm", "euler_ancestral", "lcm")

__all__ = [
    "DEFAULTS",
    "SAMPLERS",
    "Grid",
    "Known",
    "SamplerOptions",
    "Trajectory",
    "make_grid",
    "noise_scale",
    "noised",
    "sample",
]


class Trajectory(NamedTuple):
    """What happened on the way, one entry a step.

    Attributes:
        t: [n] the times of the model calls, in the process's units.
        x_t: [n, b, ...] the state after each step; the last is the result.
        x_0: [n, b, ...] the image predicted at each call.
    """

    t: Array
    x_t: Array
    x_0: Array


def sample(
    denoise_fn: DenoiseFn,
    x_T: Float[Array, "b ..."],
    process: Process,
    num_steps: int,
    sampler: str = "dpmpp_2m",
    rng: PRNGKeyArray | Key[Array, "b"] | None = None,
    *,
    options: SamplerOptions = DEFAULTS,
    timesteps: Sequence[float | int] | None = None,
    first_step: int = 0,
    noise: Float[Array, "n b ..."] | None = None,
    known: Known | None = None,
    return_trajectory: bool = False,
    **option_values: Any,
) -> Float[Array, "b ..."] | tuple[Float[Array, "b ..."], Trajectory]:
    """Integrates from x_T to x_0.

    Args:
        denoise_fn: (x_t, t [b] float32 in the process's units) -> the network's
            output in the process's prediction type; see `guidance`.
        x_T: The start at the process's own scale, x_t = alpha_t x_0 + sigma_t eps: N(0, 1), or
            noise times `noise_scale`, which is 1 unless `sigma_scaled`; with `first_step` an
            image that `noised` has brought to that step's level.
        process: the forward process the network was trained on.
        num_steps: Number of steps, each with one model call (two in heun, save the last; one
            more in all for pndm, 9 more with its Runge-Kutta steps).
        sampler: `ddpm` (arXiv:2006.11239), `euler_ancestral` and `lcm` (2310.04378) draw noise,
            and `ddim` (2010.02502) with `eta` > 0; `pndm` (2202.09778), `euler`, `heun`
            (2206.00364), `dpmpp_2m` (2211.01095) and `unipc` (2302.04867) are deterministic.
        rng: key of the noise, needed where there is noise and none is given: one for the
            batch, or one per sample, which is then the same in any batch.
        options: Options of the samplers.
        timesteps: the times themselves, decreasing, instead of the spacing.
        first_step: Number of steps to skip, to start from a noised image, as diffusers'
            image-to-image pipelines do.
        noise: [n, b, ...] noise of each step that is not skipped, instead of `rng`.
        known: Region whose content is given, for inpainting; None for none.
        return_trajectory: also return the way.
        **option_values: Fields of `SamplerOptions` that replace those of `options`.

    Returns:
        x_0 [b, ...] in float32, or (x_0, Trajectory).

    Raises:
        UserError: A name is unknown, or the options do not fit together.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"sampler={sampler!r}: expected one of {', '.join(SAMPLERS)}")
    options = dataclasses.replace(options, **option_values)
    x = x_T.astype(jnp.float32)
    output, convert = _network(denoise_fn), _conversion(process, options)
    if sampler == "pndm":
        if timesteps is not None:
            raise UserError("timesteps: pndm steps by a fixed stride, set timestep_spacing")
        calls = pndm.plan(process, num_steps, options, first_step)
        x, t, trace = pndm.pndm(output, convert, x, process, calls, options, known)
        x = x if known is None else known.finish(x)
        return (x, Trajectory(jnp.asarray(t, jnp.float32), *trace)) if return_trajectory else x

    grid = make_grid(process, num_steps, sampler, options, timesteps)
    n = len(grid.t)
    if not 0 <= first_step < n:
        raise UserError(f"first_step={first_step}: expected 0 to {n - 1}, one of the steps")
    grid = Grid(grid.t[first_step:], grid.alpha[first_step:], grid.sigma[first_step:])
    noisy = sampler in _NOISY or (sampler == "ddim" and options.eta > 0)
    if noisy and rng is None and noise is None:
        raise UserError(f"rng: sampler={sampler!r} draws noise, expected a key")

    predict = _predict_fn(output, convert, grid, known)
    draw = _noise_fn(rng, noise, x.shape)
    if sampler == "ddpm":
        x, trace = one_step.ddpm(predict, x, grid, draw)
    elif sampler == "ddim":
        target = None
        if options.fixed_stride and not process.is_flow:
            stride = process.num_train_timesteps // n
            target = levels_at(process, grid.t - stride, options)
        x, trace = one_step.ddim(predict, x, grid, draw, options.eta, target)
    elif sampler in ("euler", "euler_ancestral"):
        eta = 1.0 if sampler == "euler_ancestral" else 0.0
        x, trace = one_step.ddim(predict, x, grid, draw, eta)
    elif sampler == "heun":
        x, trace = one_step.heun(predict, x, grid, process.is_flow)
    elif sampler == "dpmpp_2m":
        x, trace = multistep.dpmpp_2m(predict, x, grid, options.lower_order_final, n)
    elif sampler == "unipc":
        x, trace = multistep.unipc(predict, x, grid, options.lower_order_final)
    else:
        x, trace = one_step.lcm(predict, x, grid, draw, options.timestep_scaling)
    if options.sigma_scaled and sampler in SIGMA_SCALED and grid.alpha[-1] != 1:
        x = x / jnp.float32(grid.alpha[-1])
    x = x if known is None else known.finish(x)
    if not return_trajectory:
        return x
    return x, Trajectory(jnp.asarray(grid.t, jnp.float32), *trace)


def _network(denoise_fn: DenoiseFn) -> Callable[[Array, Array], Array]:
    """Returns (x, t) -> the network's output in float32 at one time for the whole batch."""

    def output(x, t):
        return denoise_fn(x, jnp.broadcast_to(t, x.shape[:1])).astype(jnp.float32)

    return output


def _conversion(process: Process, options: SamplerOptions) -> Callable[..., tuple[Array, Array]]:
    """Returns (output, x, alpha, sigma) -> (x_0, eps)."""
    clip = options.clip_x_0

    def convert(output, x, alpha, sigma):
        at = (alpha, sigma, process.prediction_type)
        x_0 = predictions.to_x0(output, x, *at)
        if clip is not None:
            x_0 = jnp.clip(x_0, -clip, clip)
            if options.clip_eps:
                return x_0, (x - alpha * x_0) / sigma
        return x_0, predictions.to_eps(output, x, *at)

    return convert


def _predict_fn(
    output, convert, grid: Grid, known: Known | None
) -> Callable[[Array, Array], tuple[Array, Array]]:
    """Returns (x, i) -> (x_0, eps), both as predicted from the state x at step i of the grid."""
    t, alpha, sigma = (
        jnp.asarray(a, jnp.float32) for a in (grid.t, grid.alpha[:-1], grid.sigma[:-1])
    )

    def predict(x, i):
        # What a sampler makes of its own x in the region is replaced at the next call, too.
        x = x if known is None else known.put(x, i, alpha[i], sigma[i])
        return convert(output(x, t[i]), x, alpha[i], sigma[i])

    return predict


def _noise_fn(
    rng: Array | None, noise: Array | None, shape: tuple[int, ...]
) -> Callable[[Array], Array]:
    """Returns i -> the noise of step i: the given noise, or noise drawn by `rng`."""

    def draw(i):
        if noise is not None:
            return noise[i].astype(jnp.float32)
        if rng.ndim:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, i))(rng)
            return jax.vmap(lambda key: jax.random.normal(key, shape[1:]))(keys)
        return jax.random.normal(jax.random.fold_in(rng, i), shape)

    return draw
