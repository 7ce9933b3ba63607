"""Samplers against closed form: for Gaussian data the best denoiser and the ODE are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.diffusion import make_grid, make_process, predictions, sample
from gen_jax.diffusion.samplers import SamplerOptions
from gen_jax.diffusion.schedules import expand, tables

MU, S = 0.7, 0.4


def gaussian_denoiser(process, whole_times=True):
    """The exact output for data ~ N(MU, S^2)."""

    def denoise(x, t):
        if whole_times and not process.is_flow:
            t = t.astype(jnp.int32)  # compiles in half the time
        alpha, sigma = expand(process.alpha(t), x.ndim), expand(process.sigma(t), x.ndim)
        x_0 = MU + alpha * S**2 / (alpha**2 * S**2 + sigma**2) * (x - alpha * MU)
        eps = (x - alpha * x_0) / sigma
        return predictions.target(x_0, eps, alpha, sigma, process.prediction_type)

    return denoise


def ode_end(process, x_T):
    """Where the probability-flow ODE carries x_T: the same quantile of the data."""
    alpha, sigma = (0.0, 1.0) if process.is_flow else (a[-1] for a in tables(process)[:2])
    return MU + S * (x_T - alpha * MU) / np.sqrt(alpha**2 * S**2 + sigma**2)


def error(process, sampler, num_steps, **options):
    """Root mean square distance to the ODE's exact end over the noise's quantiles."""
    x_T = jnp.linspace(-2, 2, 9)[:, None]
    x_0 = sample(gaussian_denoiser(process), x_T, process, num_steps, sampler, **options)
    return float(np.sqrt(np.mean((np.asarray(x_0) - ode_end(process, np.asarray(x_T))) ** 2)))


PROCESSES = {
    "scaled_linear-epsilon": make_process("scaled_linear", "epsilon"),
    "cosine-v": make_process("squaredcos_cap_v2", "v_prediction"),
    "zero-snr-v": make_process("scaled_linear", "v_prediction", rescale_zero_terminal_snr=True),
    "flow": make_process("flow", "flow"),
    "flow-v": make_process("flow", "v_prediction", shift=2.0),
}


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpmpp_2m", "unipc"])
def test_deterministic_samplers_reach_the_ode_end(name, sampler):
    # On scaled_linear the last jump, from sigma = 0.09 to 0, is most of what is left.
    jump = 0.015 if name in ("scaled_linear-epsilon", "zero-snr-v") else 0.0
    limit = (0.015 if sampler == "ddim" else 0.003) + jump
    assert error(PROCESSES[name], sampler, 100) < limit


def test_order_of_convergence():
    """At even half-log-SNR times, from 16 to 64 steps: 1 for Euler, 2, 2, and 3 for UniPC-2."""
    process = make_process("scaled_linear", "v_prediction")
    alphas, sigmas, ratios = tables(process)
    log_ratio = np.log(ratios)
    x_T = np.linspace(-2, 2, 9)[:, None]
    z = (x_T - alphas[-1] * MU) / np.sqrt(alphas[-1] ** 2 * S**2 + sigmas[-1] ** 2)
    # The jump from the first time to sigma = 0 has its own error: stop before it.
    end = alphas[0] * MU + np.sqrt(alphas[0] ** 2 * S**2 + sigmas[0] ** 2) * z

    def error_of(sampler, num_steps):
        even = np.linspace(log_ratio[-1], log_ratio[0], num_steps + 1)[:-1]
        x = sample(
            gaussian_denoiser(process, whole_times=False),
            jnp.asarray(x_T, jnp.float32),
            process,
            num_steps,
            sampler,
            timesteps=np.interp(even, log_ratio, np.arange(1000)).tolist(),
            final_sigmas_type="sigma_min",
            lower_order_final=False,
        )
        return np.sqrt(np.mean((np.asarray(x) - end) ** 2))

    for sampler, order in (("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 3)):
        rate = np.log2(error_of(sampler, 16) / error_of(sampler, 64)) / 2
        assert abs(rate - order) < 0.15, (sampler, rate)


def test_ddim_is_euler_on_a_flow():
    process, x_T = PROCESSES["flow"], jnp.linspace(-2, 2, 5)[:, None]
    denoise = gaussian_denoiser(process)
    by_hand, t = x_T, np.linspace(1, 0, 11)
    for now, then in itertools.pairwise(t):
        slope = denoise(by_hand, jnp.full((5,), now, jnp.float32))
        by_hand = by_hand + (then - now) * slope
    for sampler in ("euler", "ddim"):
        x_0 = sample(denoise, x_T, process, 10, sampler)
        np.testing.assert_allclose(x_0, by_hand, atol=1e-5)


def test_float32_stays_close_to_float64_from_the_cosines_end():
    """x / alpha is 20,000 x there: the update must not pass through it."""
    process = PROCESSES["cosine-v"]
    grid, x = make_grid(process, 10, "euler"), np.linspace(-2, 2, 9)[:, None]
    ours = sample(gaussian_denoiser(process), jnp.asarray(x, jnp.float32), process, 10, "euler")
    for a, s, a_next, s_next in zip(grid.alpha, grid.sigma, grid.alpha[1:], grid.sigma[1:]):
        x_0 = MU + a * S**2 / (a**2 * S**2 + s**2) * (x - a * MU)
        x = a_next * x_0 + s_next * (x - a * x_0) / s
    np.testing.assert_allclose(ours, x, atol=2e-6)


@pytest.mark.parametrize(
    "name, sampler, eta",
    [
        ("scaled_linear-epsilon", "ddpm", 0.0),
        ("flow", "ddpm", 0.0),
        ("zero-snr-v", "ddim", 1.0),
        ("scaled_linear-epsilon", "euler_ancestral", 0.0),
    ],
)
def test_stochastic_samplers_have_the_datas_mean_and_deviation(name, sampler, eta):
    process, n = PROCESSES[name], 40_000
    alpha, sigma = (0.0, 1.0) if process.is_flow else (a[-1] for a in tables(process)[:2])
    keys = jax.random.split(jax.random.key(3))
    spread = np.sqrt(alpha**2 * S**2 + sigma**2)
    x_T = alpha * MU + spread * jax.random.normal(keys[0], (n, 1))
    x_0 = sample(gaussian_denoiser(process), x_T, process, 250, sampler, keys[1], eta=eta)
    # Four standard errors, and what 250 steps leave undone of the deviation.
    assert abs(float(x_0.mean()) - MU) < 4 * S / np.sqrt(n) + 0.01
    assert abs(float(x_0.std()) - S) < 4 * S / np.sqrt(2 * n) + 0.01


def test_ancestral_chain_matches_its_exact_recursion():
    """With few steps the deviation is known too, by propagating the variance by hand."""
    process, n = PROCESSES["scaled_linear-epsilon"], 100_000
    grid = make_grid(process, 10, "ddpm")
    mean, variance = 0.0, 1.0
    for a, s, b, r in zip(grid.alpha, grid.sigma, grid.alpha[1:], grid.sigma[1:]):
        added = s**2 - (a / b * r) ** 2
        on_x, on_x0 = a / b * (r / s) ** 2, b * added / s**2
        gain = a * S**2 / (a**2 * S**2 + s**2)
        mean = on_x * mean + on_x0 * (MU + gain * (mean - a * MU))
        variance = (on_x + on_x0 * gain) ** 2 * variance + added * (r / s) ** 2
    x_T = jax.random.normal(jax.random.key(0), (n, 1))
    x_0 = sample(gaussian_denoiser(process), x_T, process, 10, "ddpm", jax.random.key(1))
    assert abs(float(x_0.mean()) - mean) < 4 * np.sqrt(variance / n)
    assert abs(float(x_0.var()) / variance - 1) < 4 * np.sqrt(2 / n)


def test_pndm_reaches_the_ode_end_before_ddim():
    """Every quantile of the noise ends at the same one of the data: mean and variance are right."""
    process = PROCESSES["scaled_linear-epsilon"]
    # From t to t - T // n up to the first time, where the exact end is known.
    options = SamplerOptions(timestep_spacing="leading", final_sigmas_type="sigma_min")
    z = np.linspace(-2, 2, 9)[:, None]

    def error_of(sampler, num_steps):
        grid = make_grid(process, num_steps, sampler, options)
        spread = np.sqrt(grid.alpha**2 * S**2 + grid.sigma**2)
        x_T = jnp.asarray(grid.alpha[0] * MU + spread[0] * z, jnp.float32)
        x = sample(gaussian_denoiser(process), x_T, process, num_steps, sampler, options=options)
        return np.sqrt(np.mean((np.asarray(x) - grid.alpha[-1] * MU - spread[-1] * z) ** 2))

    few, many = error_of("pndm", 40), error_of("pndm", 200)
    assert few < 0.25 * error_of("ddim", 40)
    assert many < 0.12 * few and many < 0.001


def test_consistency_sampling_matches_its_exact_recursion():
    """Mean and variance of every step are known: x_0's prediction is linear, the noise is new."""
    process, n = PROCESSES["scaled_linear-epsilon"], 100_000
    grid = make_grid(process, 4, "lcm")
    mean, variance = 0.0, 1.0
    for i, t in enumerate(grid.t):
        a, s = grid.alpha[i], grid.sigma[i]
        gain = a * S**2 / (a**2 * S**2 + s**2)
        c_skip, c_out = 0.25 / ((0.001 * t) ** 2 + 0.25), 0.001 * t / np.hypot(0.001 * t, 0.5)
        mean = c_out * (MU + gain * (mean - a * MU)) + c_skip * mean
        variance *= (c_out * gain + c_skip) ** 2
        mean, variance = grid.alpha[i + 1] * mean, grid.alpha[i + 1] ** 2 * variance
        variance += grid.sigma[i + 1] ** 2
    x_T, key = jax.random.normal(jax.random.key(0), (n, 1)), jax.random.key(1)
    denoise = gaussian_denoiser(process)
    # Short times, in which the boundary condition matters.
    x_0 = sample(denoise, x_T, process, 4, "lcm", key, timestep_scaling=0.001)
    assert abs(float(x_0.mean()) - mean) < 4 * np.sqrt(variance / n)
    assert abs(float(x_0.var()) / variance - 1) < 4 * np.sqrt(2 / n)
