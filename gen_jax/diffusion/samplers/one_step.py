"""Samplers that look at one step only: ancestral DDPM, DDIM, Euler, Heun's correction, and LCM.

Each is a function (predict, x, grid, ...) -> (x, trace); see `sample` in this
package for the arguments. Coefficients are float64 NumPy until the last moment.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.diffusion.samplers.grid import Grid

_DATA_STD = 0.5


def f32(**arrays):
    """Returns the coefficients of the steps as float32 arrays, which a scan goes over."""
    return {k: jnp.asarray(v, jnp.float32) for k, v in arrays.items()}


def _posterior(alpha, sigma, alpha_s, sigma_s):
    """Returns the weights of x_t and x_0 in q(x_s | x_t, x_0), and its variance.

    Equations 25 to 28 of arXiv:2107.00630, for any alpha and sigma; with alpha^2 + sigma^2 = 1 they
    are equation 7 of arXiv:2006.11239.
    """
    step = alpha / alpha_s
    added = np.maximum(sigma**2 - (step * sigma_s) ** 2, 0)
    variance = added * (sigma_s / sigma) ** 2
    return step * (sigma_s / sigma) ** 2, alpha_s * added / sigma**2, variance


def ddpm(predict, x, grid: Grid, draw):
    """Samples by ancestral steps (arXiv:2006.11239) with the posterior's own, small variance."""
    on_x, on_x0, variance = _posterior(
        grid.alpha[:-1], grid.sigma[:-1], grid.alpha[1:], grid.sigma[1:]
    )
    coefficients = f32(on_x=on_x, on_x0=on_x0, std=np.sqrt(variance))

    def step(x, c):
        x_0, _ = predict(x, c["i"])
        x = c["on_x"] * x + c["on_x0"] * x_0 + c["std"] * draw(c["i"])
        return x, (x, x_0)

    return jax.lax.scan(step, x, coefficients | {"i": jnp.arange(len(grid.t))})


def ddim(predict, x, grid: Grid, draw, eta: float = 0.0, target=None):
    """Samples by equation 12 of arXiv:2010.02502: `eta` 0 is deterministic, 1 as noisy as DDPM.

    With eta 0 this is also Euler's method on the probability-flow ODE, both in
    (x / alpha, sigma / alpha) and on the straight lines of a flow. With eta 1 it is the ancestral
    Euler method of k-diffusion, which steps to sigma_down and adds noise of sigma_up. `target` is
    alpha and sigma [n] that each step leads to; None stands for those of the next call.
    """
    to_alpha, to_sigma = target or (grid.alpha[1:], grid.sigma[1:])
    _, _, variance = _posterior(grid.alpha[:-1], grid.sigma[:-1], to_alpha, to_sigma)
    std = eta * np.sqrt(variance)
    direction = np.sqrt(np.maximum(to_sigma**2 - std**2, 0))
    coefficients = f32(alpha=to_alpha, direction=direction, std=std)

    def step(x, c):
        x_0, eps = predict(x, c["i"])
        x = c["alpha"] * x_0 + c["direction"] * eps
        if eta > 0:
            x = x + c["std"] * draw(c["i"])
        return x, (x, x_0)

    return jax.lax.scan(step, x, coefficients | {"i": jnp.arange(len(grid.t))})


def lcm(predict, x, grid: Grid, draw, timestep_scaling: float):
    """Samples a consistency model in several steps, each with new noise (arXiv:2310.04378, alg. 3).

    The boundary condition mixes the predicted x_0 with x by c_out and c_skip of arXiv 2303.01469,
    appendix C, with the standard deviation 0.5 of the data.
    """
    time = grid.t * timestep_scaling
    norm = time**2 + _DATA_STD**2
    coefficients = f32(
        skip=_DATA_STD**2 / norm,
        out=time / np.sqrt(norm),
        alpha=grid.alpha[1:],
        sigma=grid.sigma[1:],
    )

    def step(x, c):
        x_0, _ = predict(x, c["i"])
        x_0 = c["out"] * x_0 + c["skip"] * x
        x = c["alpha"] * x_0 + c["sigma"] * draw(c["i"])
        return x, (x, x_0)

    return jax.lax.scan(step, x, coefficients | {"i": jnp.arange(len(grid.t))})


def heun(predict, x, grid: Grid, is_flow: bool):
    """Samples by algorithm 1 of arXiv:2206.00364 without churn, the last of n steps by Euler's.

    There are 2 n - 1 calls of the model. The ODE is d(x / alpha) = eps d(sigma / alpha), or
    dx = (eps - x_0) dt for a flow.
    """
    alpha, sigma = grid.alpha, grid.sigma
    scale = np.ones_like(alpha) if is_flow else alpha
    half_step = scale[1:] * np.diff(sigma / scale) / 2
    coefficients = f32(alpha=alpha[1:], sigma=sigma[1:], half_step=half_step)
    coefficients["i"] = jnp.arange(len(grid.t))

    def slope(x_0, eps):
        return eps - x_0 if is_flow else eps

    def euler(x, c):
        x_0, eps = predict(x, c["i"])
        return c["alpha"] * x_0 + c["sigma"] * eps, x_0, slope(x_0, eps)

    def step(x, c):
        x, x_0, first = euler(x, c)
        second = slope(*predict(x, c["i"] + 1))
        # Only the change of slope is added to Euler's step: no cancellation at large sigma.
        x = x + c["half_step"] * (second - first)
        return x, (x, x_0)

    x, trace = jax.lax.scan(step, x, jax.tree.map(lambda a: a[:-1], coefficients))
    x, x_0, _ = euler(x, jax.tree.map(lambda a: a[-1], coefficients))
    return x, jax.tree.map(lambda seen, new: jnp.concatenate([seen, new[None]]), trace, (x, x_0))
