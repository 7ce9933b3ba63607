"""Where sampling starts: pure noise, or an image with the noise of a later step."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.diffusion.samplers import pndm
from gen_jax.diffusion.samplers.grid import levels_at, make_grid
from gen_jax.diffusion.samplers.options import DEFAULTS, SamplerOptions
from gen_jax.diffusion.schedules import Process

# Those whose namesakes in diffusers work with x / alpha.
SIGMA_SCALED = ("euler", "euler_ancestral", "heun")


def noise_scale(
    process: Process, num_steps: int, sampler: str, options: SamplerOptions = DEFAULTS
) -> float:
    """Returns the standard deviation of pure noise x_T at the process's own scale.

    It is 1, or sigma at the first time where diffusers' `init_noise_sigma` is sigma / alpha: in
    Euler's and Heun's samplers with the spacings `linspace` and `trailing`. With `leading`
    diffusers has sqrt((sigma / alpha)^2 + 1), which is 1 at this scale.
    """
    if not options.sigma_scaled or sampler not in SIGMA_SCALED:
        return 1.0
    if options.timestep_spacing == "leading":
        return 1.0
    return float(make_grid(process, num_steps, sampler, options).sigma[0])


def noised(
    x_0: Float[Array, "b ..."],
    eps: Float[Array, "b ..."],
    process: Process,
    num_steps: int,
    sampler: str,
    first_step: int,
    options: SamplerOptions = DEFAULTS,
) -> Float[Array, "b ..."]:
    """Returns x_0 with noise at the level at which `sample` starts with this `first_step`.

    Args:
        x_0: Images or latents.
        eps: Noise of the same shape, N(0, 1).
        process: The forward process.
        num_steps: Number of steps, those that are skipped included.
        sampler: Name of the sampler.
        first_step: Number of steps that are skipped.
        options: Options of the sampler.

    Raises:
        UserError: There is no such step, or the options do not fit together.
    """
    if sampler == "pndm":
        t = pndm.plan(process, num_steps, options, first_step).t[:1]
        alpha, sigma = (level[0] for level in levels_at(process, t, options))
    else:
        grid = make_grid(process, num_steps, sampler, options)
        if not 0 <= first_step < len(grid.t):
            raise UserError(
                f"first_step={first_step}: expected 0 to {len(grid.t) - 1}, one of the steps"
            )
        alpha, sigma = grid.alpha[first_step], grid.sigma[first_step]
    return jnp.float32(alpha) * x_0 + jnp.float32(sigma) * eps
