"""MeanFlow against closed form: for Gaussian data the average velocity is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_jax.diffusion import make_process, mean_flow
from gen_jax.diffusion.schedules import expand

MU, S = 0.7, 0.4


def moments(t):
    """Mean, standard deviation and its derivative of x_t for data ~ N(MU, S^2)."""
    std = jnp.sqrt((1 - t) ** 2 * S**2 + t**2)
    return (1 - t) * MU, std, (t - (1 - t) * S**2) / std


def velocity(x, t):
    """Exact velocity dx/dt of the flow at x."""
    mean, std, slope = (expand(v, x.ndim) for v in moments(t))
    return -MU + slope / std * (x - mean)


def average(x, t, r):
    """Exact average velocity: the ODE keeps the quantile, so x_r is known; r = t is the limit."""
    mean, std, _ = (expand(v, x.ndim) for v in moments(t))
    mean_r, std_r, _ = (expand(v, x.ndim) for v in moments(r))
    x_r = mean_r + std_r / std * (x - mean)
    interval = expand(t - r, x.ndim)
    is_instant = interval == 0
    return jnp.where(is_instant, velocity(x, t), (x - x_r) / jnp.where(is_instant, 1.0, interval))


def states(count=64):
    """Times t of at least 0.1, times r that are 0.1 or more before or equal, and states."""
    keys = jax.random.split(jax.random.key(0), 3)
    t = jax.random.uniform(keys[0], (count,), minval=0.1)
    r = (t - 0.1) * jax.random.uniform(keys[1], (count,))
    r = jnp.where(jnp.arange(count) % 4 == 0, t, r)
    mean, std, _ = moments(t)
    x = mean[:, None] + std[:, None] * jax.random.normal(keys[2], (count, 3))
    return x, t, r


def test_the_exact_average_velocity_has_no_residual():
    x, t, r = states()
    v = velocity(x, t)
    du = mean_flow.total_derivative(average, x, t, r, v)
    np.testing.assert_allclose(
        mean_flow.as_velocity(average(x, t, r), du, t, r), v, atol=1e-4, rtol=0
    )
    # The derivative counts: without it the residual is large wherever r < t.
    residual = jnp.abs(average(x, t, r) - v).max(1)
    assert (residual[r == t] < 1e-4).all() and residual[r < t].mean() > 0.1


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_any_number_of_steps_gives_the_datas_mean_and_variance(steps):
    count = 40_000
    x_T = jax.random.normal(jax.random.key(1), (count, 1))
    x_0 = mean_flow.sample(average, x_T, np.linspace(1, 0, steps + 1))
    assert abs(float(x_0.mean()) - MU) < 4 * S / np.sqrt(count)
    assert abs(float(x_0.var()) / S**2 - 1) < 4 * np.sqrt(2 / count)
    np.testing.assert_allclose(x_0, MU + S * x_T, atol=1e-5)


def test_a_network_learns_it_from_data():
    """A small network with the loss of arXiv:2505.13447 samples in one step."""
    sizes, count = (3, 32, 32, 2), 512
    keys = jax.random.split(jax.random.key(2), len(sizes))
    params = [
        (jax.random.normal(k, (a, b)) / np.sqrt(a), jnp.zeros((1, b)))
        for k, a, b in zip(keys, sizes, sizes[1:])
    ]

    def u_fn(params, x, t, r):
        """An affine map of x, as the exact average velocity is one."""
        h = jnp.stack([t, r, t - r], axis=1)
        for weight, bias in params[:-1]:
            h = jnp.tanh(h @ weight + bias)
        gain, shift = jnp.split(h @ params[-1][0] + params[-1][1], 2, axis=1)
        return gain * x + shift

    def loss(params, key):
        time_key, r_key, data_key, eps_key = jax.random.split(key, 4)
        t, r = mean_flow.logit_normal_times(time_key, count, 0.5, 2.0)
        r = jnp.where(jax.random.bernoulli(r_key, 0.5, (count,)), t, r)
        x_0 = MU + S * jax.random.normal(data_key, (count, 1))
        eps = jax.random.normal(eps_key, (count, 1))
        x_t, v = (1 - t[:, None]) * x_0 + t[:, None] * eps, eps - x_0
        du = mean_flow.total_derivative(lambda *a: u_fn(params, *a), x_t, t, r, v)
        predicted = mean_flow.as_velocity(u_fn(params, x_t, t, r), du, t, r)
        error = jnp.square(predicted - v).mean(1)
        return (mean_flow.adaptive_weight(error, 0.5, 0.1) * error).mean()

    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 800))

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def train(params):
        keys = jax.random.split(jax.random.key(3), 800)
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

    trained, x_T = train(params), jax.random.normal(jax.random.key(4), (10_000, 1))
    x_0 = mean_flow.sample(lambda *a: u_fn(trained, *a), x_T, (1.0, 0.0))
    assert abs(float(x_0.mean()) - MU) < 0.05 and abs(float(x_0.std()) - S) < 0.05


def test_two_sorted_draws_are_logit_normal():
    t, r = mean_flow.logit_normal_times(jax.random.key(0), 20_000, -0.4, 1.0)
    assert (t >= r).all()
    both = jax.scipy.special.logit(jnp.concatenate([t, r]))
    assert abs(float(both.mean()) + 0.4) < 0.03 and abs(float(both.std()) - 1) < 0.03


def test_the_share_rises_from_flow_matching():
    shares = [
        float(mean_flow.rising_share(jnp.array(n), 0.5, 100, 300)) for n in range(0, 500, 100)
    ]
    np.testing.assert_allclose(shares, [0, 0, 0.25, 0.5, 0.5])
    assert float(mean_flow.rising_share(jnp.array(0), 0.75, 0, 0)) == 0.75


def test_a_guided_target_has_its_fixed_point_at_the_guided_velocity():
    v, uncond, scale = (jnp.array(x) for x in ([[1.5]], [[0.5]], [3.0]))
    guided = uncond + scale[:, None] * (v - uncond)
    np.testing.assert_allclose(mean_flow.guided_velocity(v, guided, uncond, scale), guided)
    np.testing.assert_allclose(mean_flow.guided_velocity(v, guided, uncond, scale**0), v)


def test_a_predicted_image_gives_the_velocity_towards_it():
    t = jnp.array([1.0, 0.5, 0.2])
    x_0, eps = jnp.full((3, 2), 0.3), jnp.full((3, 2), -1.1)
    x_t = make_process("flow", "sample").add_noise(x_0, eps, t)
    np.testing.assert_allclose(mean_flow.from_output(x_0, x_t, t, "sample"), eps - x_0, atol=1e-6)
    np.testing.assert_array_equal(mean_flow.from_output(x_0, x_t, t, "flow"), x_0)
