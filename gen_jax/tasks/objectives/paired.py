"""Paired: stored features give the latent, its picture is to have these features.

An autoencoder, of which the frozen tower is the first half. Its latents are not normal: a prior is
fitted to them along the way, for sampling.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common.errors import UserError
from gen_jax.models.latent_flow import LatentFlow, flow_loss, follow, velocity_fn
from gen_jax.tasks.objectives.base import Objective, as_vector, likeness


@dataclasses.dataclass(frozen=True)
class Paired(Objective):
    """Errors of features and pixels of one and the same image.

    Attributes:
      hidden_size: width of the network from features to latent.
      jitter: deviation of the noise on latents in training, whose own deviation is 1.
      pixel_weight: of the mean absolute error beside that of features.
      prior: what samples' latents are drawn from: "flow", one that is trained along (arXiv
        2210.02747); "gaussian", of the latents' running mean and covariance; or "none", the
        standard normal distribution.
      flow_hidden_size: width of that flow.
      momentum: of mean and covariance.
    """

    hidden_size: int = 512
    jitter: float = 0.2
    pixel_weight: float = 1.0
    prior: str = "flow"
    flow_hidden_size: int = 256
    momentum: float = 0.99

    has_pairs = True
    has_encoder = True

    def __post_init__(self):
        if self.prior not in ("flow", "gaussian", "none"):
            raise UserError(
                f"config.task.objective.prior={self.prior!r}: expected flow, gaussian or none"
            )

    @property
    def groups(self) -> tuple[str, ...]:
        """The prior is a group of its own: its loss moves no latent."""
        return ("prior",) if self.prior == "flow" else ()

    def init(self, scene, rng):
        """Parameters of the encoder and the prior, and the latents' running moments."""
        rows = as_vector(scene.features.stored(scene.batch))
        encoder = self._encoder(scene.z_dim).init(rng, rows)["params"]
        groups = {}
        if self.prior == "flow":
            z = jnp.zeros((1, scene.z_dim))
            groups["prior"] = self._flow.init(rng, z, jnp.zeros((1,)))["params"]
        moments = {
            "latent_mean": jnp.zeros((scene.z_dim,)),
            "latent_covariance": jnp.eye(scene.z_dim),
            "latent_updates": jnp.zeros((), jnp.int32),
        }
        return {"encoder": encoder}, groups, moments

    def loss(self, scene, params):
        """Errors of reconstructions."""
        real = scene.features.stored(scene.batch)
        z = self.encode(scene, params, real)
        noisy = z + self.jitter * jax.random.normal(scene.rngs["z"], z.shape)
        images = scene.make(params, noisy, scene.rngs["noise"])
        loss, metrics = likeness(scene, images, real, self.pixel_weight)
        # Latents of mean 0 and deviation 1, or the jitter would be nothing beside them.
        spread = jnp.mean(jnp.square(z.mean(0)) + jnp.square(z.std(0) - 1.0))
        metrics["spread"] = spread
        return loss + 0.1 * spread, metrics, self._moments(scene.extra, jax.lax.stop_gradient(z))

    def loss_of_group(self, group, scene, params):
        """The prior's."""
        real = scene.features.stored(scene.batch)
        z = jax.lax.stop_gradient(self.encode(scene, scene.everything["model"], real))
        z = (z - scene.extra["latent_mean"][None]) / self._deviation(scene.extra)
        return flow_loss(self._flow, params, z, scene.rngs["z"]).mean(), {}

    def encode(self, scene, params, features):
        """Latents of features."""
        rows = as_vector(features)
        return self._encoder(scene.z_dim).apply({"params": params["encoder"]}, rows)

    def draw(self, variables, normal):
        """Latents of the prior, from standard normal ones."""
        extra = variables["extra"]
        if self.prior == "none":
            return normal
        if self.prior == "flow":
            z = follow(velocity_fn(self._flow, variables["params"]["prior"]), normal)
            return z * self._deviation(extra) + extra["latent_mean"][None]
        # The covariance is positive, but float32 may not know.
        ridge = 1e-4 * jnp.eye(normal.shape[-1])
        factor = jnp.linalg.cholesky(extra["latent_covariance"] + ridge)
        return normal @ factor.T + extra["latent_mean"][None]

    @property
    def _flow(self):
        return LatentFlow(self.flow_hidden_size)

    def _deviation(self, extra):
        return jnp.sqrt(jnp.diagonal(extra["latent_covariance"]) + 1e-4)[None]

    def _encoder(self, z_dim):
        return _Encoder(self.hidden_size, z_dim)

    def _moments(self, extra, z):
        count = extra["latent_updates"].astype(jnp.float32)
        m = jnp.minimum(self.momentum, count / (count + 1.0))
        mean = m * extra["latent_mean"] + (1.0 - m) * z.mean(0)
        centred = z - mean[None]
        covariance = centred.T @ centred / len(z)
        return {
            "latent_mean": mean,
            "latent_covariance": m * extra["latent_covariance"] + (1.0 - m) * covariance,
            "latent_updates": extra["latent_updates"] + 1,
        }


class _Encoder(nn.Module):
    hidden: int
    z_dim: int

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm(name="norm")(x)
        x = nn.gelu(nn.Dense(self.hidden, name="hidden")(x))
        return nn.Dense(self.z_dim, name="latent")(x)
