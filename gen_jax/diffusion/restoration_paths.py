"""Paths from degraded images to clean ones, on which a network is trained and sampled.

Three forms of one problem: given a source y (the latent of a degraded or a restored image), draw
the clean latent x_0.

- `flow`: a straight path between clean latents and noisy sources (PMRF, arXiv:2410.00418),
  x_t = (1 - t) x_0 + t (y + s eps) with t from 0 to 1. The network predicts x_0.
- `resshift`: the residual is shifted in while noise grows (arXiv:2307.12348),
  x_t = x_0 + eta_t (y - x_0) + kappa sqrt(eta_t) eps. The network predicts x_0.
- `noise`: diffusion of x_0 alone (arXiv:2006.11239), the source is only what the network is
  conditioned on. The network predicts eps; sampled by DDIM.

Times are floats, 0 for clean and 1 for the start of sampling.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from gen_jax.common.errors import UserError
from gen_jax.diffusion import samplers
from gen_jax.diffusion.schedules import Process, expand, make_process

FORMS = ("flow", "noise", "resshift")

PredictFn = Callable[[Float[Array, "b ..."], Float[Array, "b"]], Float[Array, "b ..."]]
"""(x_t, t [b] in [0, 1]) -> the network's output."""

# The last share of a path in which an error of x_0 weighs no more than at its beginning.
_LEAST_TIME = 0.1
# Of ResShift: the smallest and the largest share of the residual, and how its growth is bent.
_ETA_FIRST, _ETA_LAST, _POWER = 1e-3, 0.999, 0.3


@dataclasses.dataclass(frozen=True)
class RestorationPath:
    """One of the three forms, and its numbers.

    Attributes:
      form: One of `FORMS`.
      source_noise: Standard deviation of the noise on the source; of `flow`.
      kappa: Standard deviation of the noise where the whole residual is shifted in; of `resshift`.
      schedule: `squaredcos_cap_v2` (cosine) or `linear`; of `noise`.
    """

    form: str = "flow"
    source_noise: float = 0.1
    kappa: float = 1.0
    schedule: str = "squaredcos_cap_v2"

    def __post_init__(self):
        if self.form not in FORMS:
            raise UserError(f"form={self.form!r}: expected one of {', '.join(FORMS)}")
        for name in ("source_noise", "kappa"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)}: expected at least 0")
        if self.schedule not in ("squaredcos_cap_v2", "linear"):
            raise UserError(f"schedule={self.schedule!r}: expected squaredcos_cap_v2 or linear")

    @property
    def _process(self) -> Process:
        return make_process(self.schedule, "epsilon")

    def sample_t(self, rng: PRNGKeyArray, count: int) -> Float[Array, "b"]:
        """Draws times, one in each of `count` equal parts of [0, 1], in random order."""
        offset, order = jax.random.split(rng)
        t = (jnp.arange(count) + jax.random.uniform(offset, (count,))) / count
        return jax.random.permutation(order, t)

    def noised(
        self,
        x_0: Float[Array, "b ..."],
        source: Float[Array, "b ..."],
        eps: Float[Array, "b ..."],
        t: Float[Array, "b"],
    ) -> Float[Array, "b ..."]:
        """Returns the point of the path at time t.

        Args:
          x_0: Clean latents.
          source: Latents of the images that are restored.
          eps: N(0, 1).
          t: Times in [0, 1].
        """
        if self.form == "noise":
            return self._process.add_noise(x_0, eps, self._steps(t))
        t = expand(t, x_0.ndim)
        if self.form == "flow":
            return (1.0 - t) * x_0 + t * (source + self.source_noise * eps)
        eta = _eta(t)
        return x_0 + eta * (source - x_0) + self.kappa * jnp.sqrt(eta) * eps

    def loss(
        self,
        output: Float[Array, "b ..."],
        x_0: Float[Array, "b ..."],
        eps: Float[Array, "b ..."],
        t: Float[Array, "b"],
    ) -> Float[Array, "b"]:
        """Returns the weighted squared error of a network's output, per example.

        An error of x_0 on the flow weighs as that of the velocity, 1 / t^2, but for the end.
        """
        target = eps if self.form == "noise" else x_0
        error = jnp.square(output - target).mean(axis=tuple(range(1, x_0.ndim)))
        return error / jnp.square(jnp.maximum(t, _LEAST_TIME)) if self.form == "flow" else error

    def sample(
        self,
        predict: PredictFn,
        source: Float[Array, "b ..."],
        keys: Key[Array, "b"],
        num_steps: int,
        noise: Float[Array, "b ..."] | None = None,
    ) -> Float[Array, "b ..."]:
        """Draws clean latents.

        Args:
          predict: The network.
          source: Latents of the images that are restored.
          keys: Key per example, of all of its noise.
          num_steps: Number of calls of the network.
          noise: N(0, 1) of the start, instead of that of the keys: a window of the noise of a
            larger image.
        """
        if noise is None:
            noise = jax.vmap(lambda key: jax.random.normal(key, source.shape[1:]))(keys)
        if self.form == "noise":
            last = self._process.num_train_timesteps - 1
            return samplers.sample(
                lambda x, t: predict(x, t / last), noise, self._process, num_steps, "ddim"
            )
        times = jnp.linspace(1.0, 0.0, num_steps + 1)
        steps = self._flow_steps if self.form == "flow" else self._residual_steps
        return steps(predict, source, keys, times, noise)

    def _steps(self, t: Float[Array, "b"]) -> Array:
        last = self._process.num_train_timesteps - 1
        return jnp.round(t * last).astype(jnp.int32)

    def _flow_steps(self, predict, source, keys, times, noise):
        """Takes Euler's steps; a step to t = 0 is the prediction itself."""

        def step(x, pair):
            now, then = pair
            x_0 = predict(x, jnp.full(x.shape[:1], now))
            return x_0 + (then / now) * (x - x_0), None

        start = source + self.source_noise * noise
        return jax.lax.scan(step, start, (times[:-1], times[1:]))[0]

    def _residual_steps(self, predict, source, keys, times, noise):
        """Draws from the posteriors of ResShift (its equation 7)."""
        eta = jnp.append(_eta(times[:-1]), 0.0)

        def step(x, inputs):
            index, now, share, following = inputs
            x_0 = predict(x, jnp.full(x.shape[:1], now))
            draws = jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, index), x.shape[1:]))
            kept = following / share
            spread = self.kappa * jnp.sqrt(kept * (share - following))
            return kept * x + (1.0 - kept) * x_0 + spread * draws(keys), None

        start = source + self.kappa * jnp.sqrt(eta[0]) * noise
        indices = 1 + jnp.arange(len(times) - 1)
        return jax.lax.scan(step, start, (indices, times[:-1], eta[:-1], eta[1:]))[0]


DEFAULT = RestorationPath()


def _eta(t):
    """Returns the share of the residual at time t, ResShift's schedule in continuous time."""
    return jnp.square(_ETA_FIRST**0.5 * (_ETA_LAST / _ETA_FIRST) ** (0.5 * t**_POWER))
