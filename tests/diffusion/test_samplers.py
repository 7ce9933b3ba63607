"""What every sampler promises besides its numbers: shapes, options, mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.diffusion import SAMPLERS, make_grid, make_process, sample

PROCESS = make_process("scaled_linear", "v_prediction")
FLOW = make_process("flow", "flow")


def denoise(x, t):
    """A smooth output of any kind, different for each sample's time."""
    return 0.5 * jnp.sin(x + t[:, None] / 400)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_shapes_trajectory_and_jit(sampler, num_steps):
    x_T = jax.random.normal(jax.random.key(0), (3, 5))

    @jax.jit
    def run(x):
        return sample(
            denoise, x, PROCESS, num_steps, sampler, jax.random.key(1), return_trajectory=True
        )

    x_0, way = run(x_T)
    assert x_0.shape == x_T.shape and x_0.dtype == jnp.float32
    assert way.t.shape == (num_steps,) and way.x_t.shape == way.x_0.shape == (num_steps, 3, 5)
    assert way.t[0] == 999 and np.all(np.diff(way.t) < 0)
    np.testing.assert_array_equal(way.x_t[-1], x_0)
    # Every sampler here ends with the image it predicts last.
    np.testing.assert_allclose(way.x_0[-1], x_0, atol=1e-6)


@pytest.mark.parametrize(
    "sampler, eta",
    [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 1.0)]
    + [(name, 0.0) for name in ("heun", "dpmpp_2m", "unipc")],
)
def test_a_batch_is_its_samples_one_by_one(sampler, eta):
    x_T = jax.random.normal(jax.random.key(0), (2, 5))
    keys = jax.random.split(jax.random.key(1), 2)
    both = sample(denoise, x_T, FLOW, 4, sampler, keys, eta=eta)
    one = sample(denoise, x_T[1:], FLOW, 4, sampler, keys[1:], eta=eta)
    np.testing.assert_allclose(both[1:], one, atol=1e-6)
    if sampler == "ddpm" or eta:  # the noise does come from the key
        other = sample(denoise, x_T[1:], FLOW, 4, sampler, keys[:1], eta=eta)
        assert np.abs(np.asarray(other - one)).min() > 1e-3


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_first_step_goes_on_where_the_way_was_left(sampler):
    x_T = jax.random.normal(jax.random.key(0), (2, 5))
    whole, way = sample(denoise, x_T, PROCESS, 6, sampler, return_trajectory=True)
    rest = sample(denoise, way.x_t[2], PROCESS, 6, sampler, first_step=3)
    np.testing.assert_allclose(rest, whole, atol=1e-6)


def test_noise_comes_from_the_key_and_differs_by_step_and_sample():
    x_T = jnp.zeros((2, 5))

    def zero(x, t):
        return jnp.zeros_like(x)

    run = [sample(zero, x_T, PROCESS, 3, "ddpm", jax.random.key(k)) for k in (0, 0, 1)]
    np.testing.assert_array_equal(run[0], run[1])
    assert np.abs(np.asarray(run[0] - run[2])).min() > 0
    assert len(np.unique(np.asarray(run[0]))) == 10
    assert np.isfinite(run[0]).all()


def test_eta_zero_is_deterministic_ddim():
    x_T = jax.random.normal(jax.random.key(0), (2, 5))
    plain = sample(denoise, x_T, PROCESS, 4, "ddim")
    keyed = sample(denoise, x_T, PROCESS, 4, "ddim", jax.random.key(5), eta=0.0)
    np.testing.assert_array_equal(plain, keyed)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_clipping_bounds_the_image(sampler):
    x_T = 3 * jax.random.normal(jax.random.key(0), (4, 5))
    x_0 = sample(lambda x, t: -5 * x, x_T, PROCESS, 4, sampler, clip_x_0=1.0)
    assert np.abs(np.asarray(x_0)).max() <= 1 + 1e-6


def test_trailing_starts_at_the_noisiest_time_for_every_count():
    for num_steps in (1, 3, 7, 30, 999, 1000):
        grid = make_grid(PROCESS, num_steps, "ddim")
        assert len(grid.t) == num_steps and grid.t[0] == 999 and np.all(np.diff(grid.t) < 0)
        assert grid.alpha[-1] == 1 and grid.sigma[-1] == 0 and grid.t[-1] >= 0


def test_a_flows_grid_is_even_and_shifts_towards_noise():
    grid = make_grid(FLOW, 4, "euler")
    np.testing.assert_allclose(grid.sigma, [1, 0.75, 0.5, 0.25, 0], atol=1e-12)
    moved = make_grid(make_process("flow", "flow", shift=3.0), 4, "euler")
    assert moved.sigma[0] == 1 and np.all(moved.sigma[1:-1] > grid.sigma[1:-1])


@pytest.mark.parametrize(
    "process, options, key",
    [
        (PROCESS, dict(sampler="plms"), "sampler"),
        (PROCESS, dict(num_steps=0), "num_steps"),
        (PROCESS, dict(num_steps=1001), "num_steps"),
        (PROCESS, dict(sampler="ddpm"), "rng"),
        (PROCESS, dict(sampler="ddim", eta=1.0), "rng"),
        (PROCESS, dict(timestep_spacing="even"), "timestep_spacing"),
        (PROCESS, dict(timestep_spacing="leading", steps_offset=999), "steps_offset"),
        (PROCESS, dict(final_sigmas_type="one"), "final_sigmas_type"),
        (PROCESS, dict(timesteps=(1.0, 2.0)), "timesteps"),
        (PROCESS, dict(first_step=4), "first_step"),
        (FLOW, dict(timestep_spacing="leading"), "timestep_spacing"),
        (FLOW, dict(use_karras_sigmas=True), "use_karras_sigmas"),
        (FLOW, dict(final_sigmas_type="sigma_min"), "final_sigmas_type"),
        (FLOW, dict(timesteps=(2.0, 0.5)), "timesteps"),
        (FLOW, dict(num_steps=0), "num_steps"),
    ],
)
def test_mistakes_name_the_key(process, options, key):
    with pytest.raises(UserError, match=key):
        sample(denoise, jnp.zeros((1, 2)), process, **{"num_steps": 4, **options})
