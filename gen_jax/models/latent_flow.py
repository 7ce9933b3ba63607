"""A flow from the standard normal distribution to that of vectors (arXiv 2210.02747)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_WAVES = 8

VelocityFn = Callable[[Array, Array], Array]
"""(x [b, d], t [b]) -> velocity [b, d]."""


class LatentFlow(nn.Module):
    """The velocity of vectors on their straight ways from noise to data.

    Attributes:
      hidden: width.
      num_layers: residual blocks.
    """

    hidden: int = 256
    num_layers: int = 3

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b d"],
        t: Float[Array, " b"],
        condition: Float[Array, "b c"] | None = None,
    ) -> Float[Array, "b d"]:
        """Velocities at times from 0, noise, to 1, data; of data that go with a condition."""
        angle = t[:, None] * (jnp.pi * 2.0 ** jnp.arange(_WAVES, dtype=jnp.float32))[None]
        time = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
        y = nn.Dense(self.hidden, name="enter")(jnp.concatenate([x, time], -1))
        if condition is not None:
            y = y + nn.Dense(self.hidden, name="condition")(condition)
        for index in range(self.num_layers):
            z = nn.LayerNorm(name=f"norm_{index}")(y)
            z = nn.silu(nn.Dense(self.hidden, name=f"wide_{index}")(z))
            y = y + nn.Dense(self.hidden, name=f"narrow_{index}")(z)
        # From rest, so that it begins with the mean velocity of nothing.
        leave = nn.Dense(x.shape[-1], kernel_init=nn.initializers.zeros_init(), name="leave")
        return leave(nn.LayerNorm(name="norm_out")(y))


def flow_loss(
    flow: LatentFlow,
    params,
    x: Float[Array, "b d"],
    key: jax.Array,
    condition: Float[Array, "b c"] | None = None,
) -> Float[Array, " b"]:
    """Squared error of the velocity at a random time of each vector's way, in its own units."""
    keys = jax.random.split(key)
    noise = jax.random.normal(keys[0], x.shape)
    # A time from each part of the range: less noise in the loss than independent draws have.
    t = (jnp.arange(len(x)) + jax.random.uniform(keys[1], (len(x),))) / len(x)
    at = (1.0 - t)[:, None] * noise + t[:, None] * x
    said = flow.apply({"params": params}, at, t, condition)
    return jnp.mean(jnp.square(said - (x - noise)), -1)


def velocity_fn(
    flow: LatentFlow, params, condition: Float[Array, "b c"] | None = None
) -> VelocityFn:
    """Returns the velocity of a flow under a condition."""
    return lambda x, t: flow.apply({"params": params}, x, t, condition)


def follow(
    velocity: VelocityFn, noise: Float[Array, "b d"], steps: int = 16
) -> Float[Array, "b d"]:
    """Integrates a velocity from noise at time 0 to data at time 1, by Heun's method."""

    def step(x, index):
        t = jnp.full((len(x),), index / steps)
        here = velocity(x, t)
        there = velocity(x + here / steps, t + 1.0 / steps)
        return x + (here + there) / (2.0 * steps), None

    return jax.lax.scan(step, noise, jnp.arange(steps, dtype=jnp.float32))[0]
