"""The flow between the normal distribution and another one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gen_jax.diffusion.guidance import guided
from gen_jax.models.latent_flow import LatentFlow, flow_loss, follow, velocity_fn


def test_it_stands_still_at_first_and_arrives_where_data_is_when_trained():
    centres = jnp.array([[2.0, 0], [-2, 1]])
    flow = LatentFlow(hidden=64, num_layers=2)
    params = jax.jit(flow.init)(jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros((1,)))["params"]
    noise = jax.random.normal(jax.random.key(1), (512, 2))
    np.testing.assert_array_equal(follow(velocity_fn(flow, params), noise), noise)
    tool = optax.adam(3e-3)

    @jax.jit
    def train(params):
        def step(carry, key):
            params, state = carry
            keys = jax.random.split(key, 3)
            which = jax.random.bernoulli(keys[0], 0.25, (128,)).astype(int)
            x = centres[which] + 0.1 * jax.random.normal(keys[1], (128, 2))
            grads = jax.grad(lambda p: flow_loss(flow, p, x, keys[2]).mean())(params)
            updates, state = tool.update(grads, state)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(jax.random.key(2), 800)
        return jax.lax.scan(step, (params, tool.init(params)), keys)[0][0]

    found = follow(velocity_fn(flow, train(params)), noise)
    distance = jnp.linalg.norm(found[:, None] - centres[None], axis=-1)
    assert jnp.mean(distance.min(-1) < 0.5) > 0.9
    assert abs(jnp.mean(distance.argmin(-1)) - 0.25) < 0.07, "the modes have other weights"


def test_the_loss_is_the_velocity_error():
    flow = LatentFlow(hidden=8, num_layers=1)
    x = jax.random.normal(jax.random.key(0), (4096, 3)) * 2
    params = jax.jit(flow.init)(jax.random.key(1), x, jnp.zeros((4096,)))["params"]
    # It says nought: what is left is the mean square of data less noise, 4 + 1.
    np.testing.assert_allclose(flow_loss(flow, params, x, jax.random.key(2)).mean(), 5, rtol=0.05)


class Steady(LatentFlow):
    """A flow whose velocity is the condition."""

    def __call__(self, x, t, condition=None):
        return condition


def test_guidance_extrapolates_from_the_empty_condition_by_its_scale():
    keys = jax.random.split(jax.random.key(0), 3)
    noise, text, empty = (jax.random.normal(key, (3, 2)) for key in keys)
    scale = jnp.array([0.0, 1.0, 2.5])
    conditional = velocity_fn(Steady(), {}, text)
    mixture = guided(conditional, velocity_fn(Steady(), {}, empty), scale)
    expected = noise + empty + scale[:, None] * (text - empty)
    arrived = follow(mixture, noise)
    np.testing.assert_allclose(arrived, expected, atol=1e-5)
    np.testing.assert_allclose(arrived[1], follow(conditional, noise)[1], atol=1e-5)
