"""Sampling around a region whose content is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.diffusion import samplers
from gen_jax.diffusion.schedules import make_process

SHAPE, STEPS = (2, 6), 4


def recorded(calls, process):
    """A denoiser that acts on each value alone and records its inputs."""

    def denoise(x, t):
        jax.debug.callback(lambda *call: calls.append(call), x, t, ordered=True)
        return jnp.sin(3 * x) + 0.2 * process.sigma(t)[:, None]

    return denoise


@pytest.mark.parametrize("first_step", [0, 1])
@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_every_call_but_the_first_sees_the_known_content_at_its_level(sampler, first_step):
    process = make_process("scaled_linear", "epsilon")
    options = samplers.SamplerOptions(timestep_spacing="leading", steps_offset=1)
    draws = np.random.default_rng(0).normal(size=(3, *SHAPE))
    x_T, x_0, eps = jnp.asarray(draws, jnp.float32)
    mask = np.arange(6) % 3 == np.arange(2)[:, None]
    results, calls = [], []
    for known in (samplers.Known(jnp.asarray(mask), x_0, eps), None):
        denoise = recorded(calls if known else [], process)
        key = jax.random.key(0)
        asked = dict(options=options, first_step=first_step, known=known)
        results.append(samplers.sample(denoise, x_T, process, STEPS, sampler, key, **asked))
    jax.effects_barrier()
    around, free = map(np.asarray, results)
    np.testing.assert_array_equal(around[mask], x_0[mask])
    # The denoiser acts on each value alone, so that the others are as they would be without.
    np.testing.assert_allclose(around[~mask], free[~mask], rtol=1e-5, atol=1e-5)
    assert len(calls) >= STEPS - first_step
    np.testing.assert_array_equal(calls[0][0], x_T)
    for x, t in calls[1:]:
        alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
        want = np.asarray(alpha * x_0 + sigma * eps)
        np.testing.assert_allclose(np.asarray(x)[mask], want[mask], rtol=1e-4, atol=1e-5)
