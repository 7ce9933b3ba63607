"""The autoencoder stage: KL + L1/L2 + a perceptual term, and optionally a patch discriminator."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common import pixels
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.losses import reconstruction
from gen_jax.tasks import first_stage
from gen_jax.tasks.base import Task
from gen_jax.tasks.image_terms import DISCRIMINATORS, ImageTerms, with_terms


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAETask(ImageTerms, Task):
    """Trains an autoencoder (arXiv 2112.10752, section 3.1).

    Attributes:
      autoencoder: any module with `encode` and `decode`.
      kl_weight: weight of the KL divergence to N(0, 1), in nats an image element.
      kl_warmup: updates over which that weight rises from zero, so that latents say something
        before they have to say it shortly (arXiv 1602.02282).
      momentum: of the running latent statistics.
    """

    autoencoder: nn.Module
    kl_weight: float = 1e-6
    kl_warmup: int = 0
    momentum: float = 0.99

    parts: ClassVar = {
        "autoencoder": Part(first_stage.AUTOENCODERS),
        "discriminator": Part(DISCRIMINATORS),
    }
    rng_streams = ("latent", "window")

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "VAETask":
        """Builds it from `config.task`.

        Raises:
          UserError: a key that does not exist or does not fit.
        """
        if "autoencoder" not in config:
            raise UserError("config.task.autoencoder is missing: name an architecture")
        values = with_terms(config)
        values["autoencoder"] = first_stage.build_autoencoder(values["autoencoder"])
        return build(cls, values, "config.task")

    def init(self, rng, batch):
        x = pixels.to_signed(batch["image"])
        keys = jax.random.split(rng, 3)
        params = {"model": self.autoencoder.init(keys[0], x, keys[1])["params"]}
        if self.discriminator is not None:
            params["disc"] = self.discriminator.init(keys[2], x)["params"]
        mean, _ = jax.eval_shape(
            lambda p: self.autoencoder.apply({"params": p}, x, method="encode"), params["model"]
        )
        channels = mean.shape[-1]
        extra = {
            "latent_mean": jnp.zeros((channels,)),
            "latent_var": jnp.ones((channels,)),
            "updates": jnp.zeros((), jnp.int32),
        }
        return params, extra

    def predict_fns(self):
        return {"reconstruct": self._reconstruct, "encode": self._encode, "decode": self._decode}

    def predict_spec(self):
        shape = first_stage.latent_shape(self.autoencoder, self.image_size)
        image, latent = self.batch_spec(), {"latent": jax.ShapeDtypeStruct(shape, jnp.float32)}
        return {"reconstruct": image, "encode": image, "decode": latent}

    def components(self, variables, frozen):
        return {"vae": (self.autoencoder, variables["params"]["model"])}

    def _model_loss(self, params, everything, extra, batch, rngs, frozen):
        x = pixels.to_signed(batch["image"])
        y, mean, logvar = self.autoencoder.apply({"params": params}, x, rngs["latent"])
        kl = reconstruction.kl_to_standard_normal(mean, logvar).mean() / x[0].size
        risen = jnp.minimum(1.0, extra["updates"] / max(self.kl_warmup, 1))
        weight = self.kl_weight * (risen if self.kl_warmup else 1.0)
        terms = {"kl": (weight, kl)}
        terms |= self.terms(x, y, everything, extra["updates"], frozen, rngs["window"])
        loss, metrics = self.total(terms, x, y)
        return loss, (metrics, self._updated(extra, mean, logvar))

    def _updated(self, extra, mean, logvar):
        """Running mean and variance of the latents, unbiased from the first update on."""
        axes = (0, 1, 2)
        now_mean = jax.lax.stop_gradient(mean.mean(axes))
        now_var = jax.lax.stop_gradient(mean.var(axes) + jnp.exp(logvar).mean(axes))
        count = extra["updates"].astype(jnp.float32)
        m = jnp.minimum(self.momentum, count / (count + 1.0))
        return {
            "latent_mean": m * extra["latent_mean"] + (1.0 - m) * now_mean,
            "latent_var": m * extra["latent_var"] + (1.0 - m) * now_var,
            "updates": extra["updates"] + 1,
        }

    def _disc_loss(self, params, everything, extra, batch, rngs, frozen):
        x = pixels.to_signed(batch["image"])
        y, _, _ = self.autoencoder.apply({"params": everything["model"]}, x, rngs["latent"])
        loss, metrics = self.told_apart(params, x, y)
        return loss, (metrics, extra)

    def as_frozen(self, variables) -> dict[str, Any]:
        """What `first_stage.encode` and `decode` take of a trained autoencoder."""
        return {
            "params": variables["params"]["model"],
            "latent_mean": variables["extra"]["latent_mean"],
            "latent_std": jnp.sqrt(variables["extra"]["latent_var"]),
        }

    def _reconstruct(self, variables, batch, rngs, frozen):
        latent = self._encode(variables, batch, rngs, frozen)
        return self._decode(variables, latent, rngs, frozen)

    def _encode(self, variables, batch, rngs, frozen):
        x = pixels.to_signed(batch["image"])
        return {"latent": first_stage.encode(self.autoencoder, self.as_frozen(variables), x, None)}

    def _decode(self, variables, batch, rngs, frozen):
        y = first_stage.decode(self.autoencoder, self.as_frozen(variables), batch["latent"])
        return {"image": pixels.from_signed(y)}
