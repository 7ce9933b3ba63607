"""Average velocities of a flow, for sampling in one step: MeanFlow (arXiv:2505.13447).

On the path x_t = (1 - t) x_0 + t eps the velocity is v = dx_t / dt, and the average velocity over
[r, t] is u(x_t, t, r) = (x_t - x_r) / (t - r). One evaluation of u leads from t to r. It satisfies

    u(x_t, t, r) = v(x_t, t) - (t - r) du/dt,    du/dt = v du/dx + du/dt at a fixed r,

so V = u + (t - r) du/dt is a prediction of the velocity, and regressing V on v with du/dt taken as
a constant learns u. This is the loss of improved MeanFlow (arXiv:2512.02012), whose gradient is
that of the original one. With r = t it is flow matching.

A function `u_fn` is (x_t [b, ...], t [b], r [b]) -> average velocity [b, ...].
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from gen_jax.diffusion.schedules import expand

SAMPLER = "meanflow"
"""Name of `sample` in a config, beside those of `samplers.SAMPLERS`."""

AverageVelocityFn = Callable[[Array, Array, Array], Array]

# Below this time the velocity that a predicted x_0 implies is no longer divided by t.
_LEAST_TIME = 0.05


def logit_normal_times(
    rng: PRNGKeyArray, count: int, mean: float | int = -0.4, std: float | int = 1.0
) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
    """Draws pairs t >= r, the sorted logistic of two normal numbers.

    Args:
      rng: Key.
      count: Number of pairs.
      mean: Mean of the normal numbers.
      std: Their standard deviation.
    """
    first, second = jax.nn.sigmoid(mean + std * jax.random.normal(rng, (2, count)))
    return jnp.maximum(first, second), jnp.minimum(first, second)


def rising_share(
    updates: Float[Array, ""] | Array, share: float | int, start: float | int, end: float | int
) -> Float[Array, ""]:
    """Returns the share of examples with r < t, annealed from flow matching (arXiv:2510.20771).

    Args:
      updates: Number of updates so far.
      share: Final share.
      start: Updates at which it begins to rise from 0.
      end: Updates at which it is reached; not after `start` for a share that does not rise.
    """
    if end <= start:
        return jnp.where(updates >= start, jnp.float32(share), 0.0)
    progress = (jnp.asarray(updates, jnp.float32) - start) / (end - start)
    return share * jnp.clip(progress, 0.0, 1.0)


def from_output(
    output: Float[Array, "b ..."],
    x_t: Float[Array, "b ..."],
    t: Float[Array, "b"],
    prediction_type: str,
) -> Float[Array, "b ..."]:
    """Returns the average velocity that the output of a network stands for.

    Args:
      output: What the network predicts.
      x_t: Its input.
      t: Time of the input.
      prediction_type: "flow" if it predicts u itself. "sample" if it predicts x_t - t u, which at
        r = t and at r = 0 is an image and therefore easier to predict than noise is.
    """
    if prediction_type == "flow":
        return output
    return (x_t - output) / expand(jnp.maximum(t, _LEAST_TIME), x_t.ndim)


def total_derivative(
    u_fn: AverageVelocityFn,
    x_t: Float[Array, "b ..."],
    t: Float[Array, "b"],
    r: Float[Array, "b"],
    v: Float[Array, "b ..."],
) -> Float[Array, "b ..."]:
    """Returns du/dt along the path, as a constant.

    Args:
      u_fn: Average velocity.
      x_t: State at time t.
      t: Time.
      r: Time that the average reaches back to, at most t.
      v: Velocity along which du/dt is taken: that of the path, or the marginal one that the network
        predicts, which has less variance (arXiv:2512.02012).
    """
    _, du = jax.jvp(u_fn, (x_t, t, r), (v, jnp.ones_like(t), jnp.zeros_like(r)))
    return jax.lax.stop_gradient(du)


def as_velocity(
    u: Float[Array, "b ..."],
    du: Float[Array, "b ..."],
    t: Float[Array, "b"],
    r: Float[Array, "b"],
) -> Float[Array, "b ..."]:
    """Returns V = u + (t - r) du/dt, which is the velocity at time t if u is exact."""
    return u + expand(t - r, u.ndim) * du


def guided_velocity(
    v: Float[Array, "b ..."],
    cond: Float[Array, "b ..."],
    uncond: Float[Array, "b ..."],
    scale: Float[Array, "b"],
) -> Float[Array, "b ..."]:
    """Returns a target whose mean is the guided velocity, from a sample of the velocity.

    It is v + (1 - 1 / scale) (cond - uncond). If `cond` is itself the guided prediction, the
    fixed point is uncond + scale (E[v] - uncond), with the variance of `v` alone.

    Args:
      v: Velocity of the path, eps - x_0.
      cond: Prediction under the condition, guided by `scale`.
      uncond: Prediction under the empty condition.
      scale: Guidance scale per example, at least 1.
    """
    return v + expand(1 - 1 / scale, v.ndim) * (cond - uncond)


def adaptive_weight(
    error: Float[Array, "b"], power: float | int, epsilon: float | int
) -> Float[Array, "b"]:
    """Returns 1 / (error + epsilon)^power as a constant: 0 gives squared errors, 1 about norms."""
    return jax.lax.stop_gradient((error + epsilon) ** -power)


def masked_mean(values: Float[Array, "b"], mask: Bool[Array, "b"]) -> Float[Array, ""]:
    """Returns the mean of the values at True, 0 if there are none."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def sample(
    u_fn: AverageVelocityFn, x_T: Float[Array, "b ..."], times: Sequence[float] | np.ndarray
) -> Float[Array, "b ..."]:
    """Goes from noise to x_0 in jumps x_r = x_t - (t - r) u(x_t, t, r), one evaluation each.

    Args:
      u_fn: Average velocity.
      x_T: Noise.
      times: n + 1 decreasing times; (1, 0) for one step.
    """
    times = np.asarray(times, np.float32)

    def step(x, pair):
        t, r = (jnp.broadcast_to(time, x.shape[:1]) for time in pair)
        u = u_fn(x, t, r).astype(jnp.float32)
        return x - expand(t - r, x.ndim) * u, None

    pairs = (jnp.asarray(times[:-1]), jnp.asarray(times[1:]))
    return jax.lax.scan(step, x_T.astype(jnp.float32), pairs)[0]
