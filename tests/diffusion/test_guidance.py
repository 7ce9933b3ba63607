"""Classifier-free guidance: its fixed points, and one call against two."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.diffusion import combine, guided, guided_batched, make_process, sample, within

X, T = jax.random.normal(jax.random.key(0), (3, 4, 4, 2)), jnp.asarray([0.1, 0.5, 0.9])


def model(x, t, condition):
    return jnp.sin(x + t[:, None, None, None]) + condition["bias"][:, None, None, :] * x


COND = {"bias": jax.random.normal(jax.random.key(1), (3, 2))}
EMPTY = {"bias": jnp.zeros((3, 2))}


def denoise_cond(x, t):
    return model(x, t, COND)


def denoise_uncond(x, t):
    return model(x, t, EMPTY)


def test_scale_one_is_conditional_and_zero_is_not():
    one = guided(denoise_cond, denoise_uncond, 1.0, 0.5)(X, T)
    np.testing.assert_allclose(one, denoise_cond(X, T), atol=1e-6)
    zero = guided(denoise_cond, denoise_uncond, 0.0)(X, T)
    np.testing.assert_allclose(zero, denoise_uncond(X, T), atol=1e-6)


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
@hypothesis.given(scale=st.floats(0, 20), rescale=st.floats(0, 1))
def test_one_call_on_both_is_two_calls(scale, rescale):
    two = guided(denoise_cond, denoise_uncond, scale, rescale)(X, T)
    one = guided_batched(model, COND, EMPTY, scale, rescale)(X, T)
    np.testing.assert_allclose(one, two, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["flow", "linear"])
def test_outside_its_interval_nothing_is_guided(schedule):
    process = make_process(schedule=schedule, prediction_type="sample")
    times = T if process.is_flow else jnp.round(T * 999)
    scale = within(4.0, 0.4, 0.6, process)
    np.testing.assert_array_equal(scale(times), [1.0, 4.0, 1.0])
    one = guided_batched(model, COND, EMPTY, scale)(X, times)
    two = guided(lambda x, t: model(x, t, COND), lambda x, t: model(x, t, EMPTY), scale)(X, times)
    np.testing.assert_allclose(one, two, atol=1e-5, rtol=1e-5)
    plain = model(X, times, COND)
    np.testing.assert_allclose(one[jnp.array([0, 2])], plain[jnp.array([0, 2])], atol=1e-5)
    assert float(jnp.abs(one[1] - plain[1]).max()) > 0.1


def test_one_call_on_both_keeps_a_sharded_batch_in_place():
    """No collective: each device holds both halves of its own samples."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.NamedSharding(mesh, jax.P("data"))
    x = jax.device_put(jnp.ones((16, 4, 4, 2)), split)
    t, bias = (jax.device_put(v, split) for v in (jnp.ones(16), jnp.ones((16, 2))))

    def run(x, t, bias):
        return guided_batched(model, {"bias": bias}, {"bias": 0 * bias}, 3.0, 0.5)(x, t)

    program = jax.jit(run).lower(x, t, bias).compile()
    assert program.output_shardings.is_equivalent_to(split, x.ndim)
    text = program.as_text()
    assert not any(op in text for op in ("all-gather", "all-to-all", "collective-permute"))


def test_full_rescale_has_the_conditional_outputs_contrast():
    out = guided(denoise_cond, denoise_uncond, 9.0, 1.0)(X, T)
    expected = np.asarray(denoise_cond(X, T)).std((1, 2, 3))
    np.testing.assert_allclose(np.asarray(out).std((1, 2, 3)), expected, rtol=1e-5)


def test_a_scale_for_each_sample():
    scales = jnp.asarray([0.0, 1.0, 4.0])
    together = combine(denoise_cond(X, T), denoise_uncond(X, T), scales)
    for i, scale in enumerate(scales):
        alone = combine(denoise_cond(X, T), denoise_uncond(X, T), scale)
        np.testing.assert_allclose(together[i], alone[i], atol=1e-6)


def test_guidance_moves_gaussian_samples_as_predicted():
    """Classes N(+-1, 1) in a flow: guiding the class of mean m by w is as if its mean were w m."""
    process = make_process("flow", "sample")

    def denoiser(mean):
        def denoise(x, t):
            alpha, sigma = 1 - t[:, None], t[:, None]
            return mean + alpha / (alpha**2 + sigma**2) * (x - alpha * mean)

        return denoise

    x_T = jax.random.normal(jax.random.key(2), (1000, 1))
    plain = sample(denoiser(3.0), x_T, process, 40)
    guidance = guided(denoiser(1.0), denoiser(0.0), jnp.asarray(3.0))
    np.testing.assert_allclose(sample(guidance, x_T, process, 40), plain, atol=1e-4)
