"""Paired: stored features give the latent, its picture is to have these features.

An autoencoder, of which the frozen tower is the first half. Its latents are not normal: a prior is
fitted to them along the way, for sampling.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common.errors import UserError
from gen_jax.tasks.objectives.base import as_vector, pixel_error, squared_error


@dataclasses.dataclass(frozen=True)
class Paired:
    """Errors of features and pixels of one and the same image.

    Attributes:
      hidden: width of the network from features to latent.
      jitter: deviation of the noise on latents in training, whose own deviation is 1.
      pixel_weight: of the mean absolute error beside that of features.
      prior: what samples' latents are drawn from: "gaussian", of the latents' running mean and
        covariance, or "none", the standard normal distribution.
      momentum: of those.
    """

    hidden: int = 512
    jitter: float = 0.2
    pixel_weight: float = 1.0
    prior: str = "gaussian"
    momentum: float = 0.99

    groups = ()

    def __post_init__(self):
        if self.prior not in ("gaussian", "none"):
            raise UserError(f"config.task.objective.prior={self.prior!r}: expected gaussian, none")

    def init(self, scene, rng):
        """Parameters of the encoder, and the latents' running moments."""
        rows = as_vector(scene.features.stored(scene.batch))
        encoder = self._encoder(scene.z_dim).init(rng, rows)["params"]
        moments = {
            "latent_mean": jnp.zeros((scene.z_dim,)),
            "latent_covariance": jnp.eye(scene.z_dim),
            "latent_updates": jnp.zeros((), jnp.int32),
        }
        return {"encoder": encoder}, {}, moments

    def loss(self, scene, params):
        """Errors of reconstructions."""
        real = scene.features.stored(scene.batch)
        z = self.encode(scene, params, real)
        noisy = z + self.jitter * jax.random.normal(scene.rngs["z"], z.shape)
        images = scene.make(params["generator"], noisy, scene.rngs["noise"])
        features = squared_error(scene.features.computed(scene.frozen, images), real).mean()
        pixels = pixel_error(images, scene.real).mean()
        # Latents of mean 0 and deviation 1, or the jitter would be nothing beside them.
        spread = jnp.mean(jnp.square(z.mean(0)) + jnp.square(z.std(0) - 1.0))
        metrics = {"features": features, "pixels": pixels, "spread": spread}
        loss = features + self.pixel_weight * pixels + 0.1 * spread
        return loss, metrics, self._moments(scene.extra, jax.lax.stop_gradient(z))

    def encode(self, scene, params, features):
        """Latents of features."""
        rows = as_vector(features)
        return self._encoder(scene.z_dim).apply({"params": params["encoder"]}, rows)

    def draw(self, extra, normal):
        """Latents of the prior, from standard normal ones."""
        if self.prior == "none":
            return normal
        # The covariance is positive, but float32 may not know.
        ridge = 1e-4 * jnp.eye(normal.shape[-1])
        factor = jnp.linalg.cholesky(extra["latent_covariance"] + ridge)
        return normal @ factor.T + extra["latent_mean"][None]

    def _encoder(self, z_dim):
        return _Encoder(self.hidden, z_dim)

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
