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
from gen_jax.diffusion.samplers import multistep, one_step
from gen_jax.diffusion.samplers.grid import Grid, make_grid
from gen_jax.diffusion.samplers.options import DEFAULTS, SamplerOptions
from gen_jax.diffusion.schedules import Process

SAMPLERS = ("ddpm", "ddim", "euler", "heun", "dpmpp_2m", "unipc")

__all__ = [
    "DEFAULTS",
    "SAMPLERS",
    "Grid",
    "SamplerOptions",
    "Trajectory",
    "make_grid",
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
    return_trajectory: bool = False,
    **option_values: Any,
) -> Float[Array, "b ..."] | tuple[Float[Array, "b ..."], Trajectory]:
    """Integrates from x_T to x_0.

    Args:
        denoise_fn: (x_t, t [b] float32 in the process's units) -> the network's
            output in the process's prediction type; see `guidance`.
        x_T: the start, at the process's own scale: N(0, 1), or with
            `first_step` an image noised to that step's time.
        process: the forward process the network was trained on.
        num_steps: model calls (heun makes 2 n - 1).
        sampler: `ddpm` (arXiv 2006.11239) and `ddim` (2010.02502) draw noise,
            ddim only with `eta` > 0; `euler`, `heun` (2206.00364), `dpmpp_2m`
            (2211.01095) and `unipc` (2302.04867) are deterministic.
        rng: key of the noise, needed where there is noise and none is given: one for the
            batch, or one per sample, which is then the same in any batch.
        options: Options of the samplers.
        timesteps: the times themselves, decreasing, instead of the spacing.
        first_step: skip this many steps, to start from a noised image.
        noise: [n, b, ...] the noise of each step, instead of `rng`.
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
    grid = make_grid(
        process,
        num_steps,
        sampler,
        options.timestep_spacing,
        options.steps_offset,
        options.use_karras_sigmas,
        options.final_sigmas_type,
        timesteps,
    )
    n = len(grid.t)
    if not 0 <= first_step < n:
        raise UserError(f"first_step={first_step}: expected 0 to {n - 1}, one of the steps")
    grid = Grid(grid.t[first_step:], grid.alpha[first_step:], grid.sigma[first_step:])
    noisy = sampler == "ddpm" or (sampler == "ddim" and options.eta > 0)
    if noisy and rng is None and noise is None:
        raise UserError(f"rng: sampler={sampler!r} draws noise, expected a key")

    x = x_T.astype(jnp.float32)
    predict = _predict_fn(denoise_fn, process, grid, options.clip_x_0)
    draw = _noise_fn(rng, noise, x.shape)
    if sampler == "ddpm":
        x, trace = one_step.ddpm(predict, x, grid, draw)
    elif sampler in ("ddim", "euler"):
        x, trace = one_step.ddim(predict, x, grid, draw, options.eta if sampler == "ddim" else 0.0)
    elif sampler == "heun":
        x, trace = one_step.heun(predict, x, grid, process.is_flow)
    elif sampler == "dpmpp_2m":
        x, trace = multistep.dpmpp_2m(predict, x, grid, options.lower_order_final)
    else:
        x, trace = multistep.unipc(predict, x, grid, options.lower_order_final)
    if not return_trajectory:
        return x
    return x, Trajectory(jnp.asarray(grid.t, jnp.float32), *trace)


def _predict_fn(
    denoise_fn: DenoiseFn, process: Process, grid: Grid, clip_x_0: float | int | None
) -> Callable[[Array, Array], tuple[Array, Array]]:
    """Returns (x, i) -> (x_0, eps), both as predicted from the state x at step i of the grid."""
    t, alpha, sigma = (
        jnp.asarray(a, jnp.float32) for a in (grid.t, grid.alpha[:-1], grid.sigma[:-1])
    )

    def predict(x, i):
        output = denoise_fn(x, jnp.broadcast_to(t[i], x.shape[:1])).astype(jnp.float32)
        at = (alpha[i], sigma[i], process.prediction_type)
        x_0 = predictions.to_x0(output, x, *at)
        if clip_x_0 is None:
            return x_0, predictions.to_eps(output, x, *at)
        x_0 = jnp.clip(x_0, -clip_x_0, clip_x_0)
        return x_0, (x - alpha[i] * x_0) / sigma[i]

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
