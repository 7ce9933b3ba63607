"""What every sampler promises besides its numbers: shapes, options, mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.diffusion import SAMPLERS, make_grid, make_process, sample
from gen_jax.diffusion.samplers import SamplerOptions, noise_scale, noised

PROCESS = make_process("scaled_linear", "v_prediction")
FLOW = make_process("flow", "flow")


def denoise(x, t):
    """A smooth output of any kind, different for each sample's time."""
    return 0.5 * jnp.sin(x + t[:, None] / 400)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_shapes_trajectory_and_jit(sampler, num_steps):
    x_T = jax.random.normal(jax.random.key(0), (3, 5))
    # The fixed stride of pndm meets the end of sampling with `leading` alone.
    spacing = "leading" if sampler == "pndm" else "trailing"
    options = SamplerOptions(timestep_spacing=spacing)

    @jax.jit
    def run(x):
        key, kept = jax.random.key(1), dict(options=options, return_trajectory=True)
        return sample(denoise, x, PROCESS, num_steps, sampler, key, **kept)

    x_0, way = run(x_T)
    assert x_0.shape == x_T.shape and x_0.dtype == jnp.float32
    assert way.t.shape == (num_steps,) and way.x_t.shape == way.x_0.shape == (num_steps, 3, 5)
    np.testing.assert_array_equal(way.t, make_grid(PROCESS, num_steps, sampler, options).t)
    assert np.all(np.diff(way.t) < 0) and (way.t[0] == 999 or spacing == "leading")
    np.testing.assert_array_equal(way.x_t[-1], x_0)
    # Every sampler here ends with the image it predicts last.
    np.testing.assert_allclose(way.x_0[-1], x_0, atol=1e-6)


@pytest.mark.parametrize(
    "sampler, eta",
    [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 1.0)]
    + [(name, 0.0) for name in ("heun", "dpmpp_2m", "unipc", "euler_ancestral", "lcm", "pndm")],
)
def test_a_batch_is_its_samples_one_by_one(sampler, eta):
    x_T = jax.random.normal(jax.random.key(0), (2, 5))
    keys = jax.random.split(jax.random.key(1), 2)
    process = PROCESS if sampler in ("lcm", "pndm") else FLOW
    both = sample(denoise, x_T, process, 4, sampler, keys, eta=eta)
    one = sample(denoise, x_T[1:], process, 4, sampler, keys[1:], eta=eta)
    np.testing.assert_allclose(both[1:], one, atol=1e-6)
    if sampler in ("ddpm", "euler_ancestral", "lcm") or eta:  # the noise does come from the key
        other = sample(denoise, x_T[1:], process, 4, sampler, keys[:1], eta=eta)
        assert np.abs(np.asarray(other - one)).min() > 1e-3


@pytest.mark.parametrize("sampler", ["ddim", "heun", "euler"])
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
        (PROCESS, dict(sampler="plms"), "sampler='plms': expected one of ddpm"),
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
        (FLOW, dict(sampler="pndm"), "sampler='pndm': not defined for schedule='flow'"),
        (FLOW, dict(sampler="lcm"), "sampler='lcm': not defined for schedule='flow'"),
        (PROCESS, dict(sampler="pndm", timesteps=(9.0, 1.0)), "timesteps: pndm steps by a fixed"),
        (PROCESS, dict(sampler="pndm", first_step=4), "first_step"),
        (PROCESS, dict(sampler="pndm", num_steps=3, skip_prk_steps=False), "num_steps=3: .* 4"),
        (PROCESS, dict(sampler="euler_ancestral"), "rng"),
        (PROCESS, dict(sampler="lcm"), "rng"),
        (PROCESS, dict(sampler="lcm", num_steps=51), "num_steps=51: .*original_inference_steps=50"),
        (PROCESS, dict(sampler="lcm", original_inference_steps=1001), "original_inference_steps"),
    ],
)
def test_mistakes_name_the_key(process, options, key):
    with pytest.raises(UserError, match=key):
        sample(denoise, jnp.zeros((1, 2)), process, **{"num_steps": 4, **options})


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(eta=1.5), "sampler_options.eta=1.5: expected a number from 0 to 1"),
        (dict(eta=True), "sampler_options.eta=True: expected a number from 0 to 1"),
        (dict(steps_offset=0.5), "sampler_options.steps_offset=0.5: expected a whole number"),
        (dict(timestep_spacing="even"), "sampler_options.timestep_spacing='even': expected one of"),
        (dict(final_sigmas_type=None), "sampler_options.final_sigmas_type=None: expected one of"),
        (dict(clip_x_0=0.0), "sampler_options.clip_x_0=0.0: expected a number above 0"),
        (dict(lower_order_final=1), "sampler_options.lower_order_final=1: expected True or False"),
        (dict(original_inference_steps=0), "sampler_options.original_inference_steps=0"),
        (dict(timestep_scaling=0.0), "sampler_options.timestep_scaling=0.0"),
        (dict(fixed_stride=True, use_karras_sigmas=True), "sampler_options.fixed_stride=True"),
    ],
)
def test_options_are_checked_by_name(values, message):
    # Set one by one: in tests a constructor refuses values of another type by itself.
    options = SamplerOptions()
    for name, value in values.items():
        object.__setattr__(options, name, value)
    with pytest.raises(UserError, match=message):
        options.__post_init__()


def test_options_are_hashable_and_a_keyword_replaces_one():
    options = SamplerOptions(timestep_spacing="leading", steps_offset=1)
    assert hash(options) == hash(SamplerOptions(**options.values()))
    x_T = jax.random.normal(jax.random.key(0), (2, 5))
    by_keyword = sample(denoise, x_T, PROCESS, 3, "ddim", steps_offset=1, options=options)
    by_options = sample(denoise, x_T, PROCESS, 3, "ddim", options=options)
    other = sample(denoise, x_T, PROCESS, 3, "ddim", options=options, timestep_spacing="trailing")
    np.testing.assert_array_equal(by_keyword, by_options)
    assert np.abs(np.asarray(other - by_options)).max() > 1e-3


@pytest.mark.parametrize("spacing", ["linspace", "trailing", "leading"])
@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "heun", "ddim"])
def test_pure_noise_has_the_standard_deviation_of_diffusers(sampler, spacing):
    options = SamplerOptions(timestep_spacing=spacing, sigma_scaled=True)
    ratio = make_grid(PROCESS, 10, sampler, options)
    ratio = ratio.sigma[0] / ratio.alpha[0]
    # `init_noise_sigma` over the scale that the model's input is divided by.
    init_noise_sigma = np.sqrt(ratio**2 + 1) if spacing == "leading" else ratio
    want = 1.0 if sampler == "ddim" else init_noise_sigma / np.sqrt(ratio**2 + 1)
    np.testing.assert_allclose(noise_scale(PROCESS, 10, sampler, options), want, rtol=1e-12)
    assert noise_scale(PROCESS, 10, sampler, SamplerOptions(timestep_spacing=spacing)) == 1.0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_is_noised_to_the_level_of_its_first_step(sampler):
    options = SamplerOptions(timestep_spacing="leading", steps_offset=1)
    one = jnp.ones((1, 1))
    alpha, sigma = (
        float(noised(a, b, PROCESS, 10, sampler, 4, options)[0, 0])
        for a, b in ((one, 0 * one), (0 * one, one))
    )
    assert abs(alpha**2 + sigma**2 - 1) < 1e-6
    # The second time is called twice in pndm, and its list is one longer.
    t = make_grid(PROCESS, 10, sampler, options).t[3 + (sampler != "pndm")]
    assert abs(alpha - float(PROCESS.alpha(jnp.full((1,), t, jnp.float32))[0])) < 1e-6
    with pytest.raises(UserError, match="first_step=10: expected 0 to 9"):
        noised(one, one, PROCESS, 10, sampler, 10, options)
