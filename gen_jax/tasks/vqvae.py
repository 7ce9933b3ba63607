"""The stage of discrete latents: an autoencoder whose latents are codes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gen_jax.common import pixels
from gen_jax.common.build import build, by_name
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.models.quantizers import QUANTIZERS
from gen_jax.models.vqvae import VQVAE
from gen_jax.tasks.base import Task
from gen_jax.tasks.image_terms import DISCRIMINATORS, ImageTerms, with_terms

ENCODER = "patch_in|encoder_|downs_"
"""Pattern of the parameters before the codes: how their names begin."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VQVAETask(ImageTerms, Task):
    """Trains a VQ-VAE (arXiv 1711.00937), with what made later ones better; see its quantizers.

    Attributes:
      autoencoder: from images to latents and back.
      quantizer: from latents to codes and back; a `models.quantizers.Quantizer`.
      beta: weight of the commitment: how near latents are to stay to their codes.
      freeze_codes: whether only the decoder learns: encoder and codebook stay, and with them the
        codes of every image, so that a prior over them stays true.
    """

    autoencoder: VQVAE
    quantizer: Any
    beta: float = 0.25
    freeze_codes: bool = False

    parts: ClassVar = {
        "autoencoder": Part(VQVAE, derived=("dim",)),
        "quantizer": Part(QUANTIZERS),
        "discriminator": Part(DISCRIMINATORS),
    }
    inherited = ("codebook",)
    rng_streams = ("codebook", "window")

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "VQVAETask":
        """Builds it from `config.task`.

        Raises:
          UserError: a key that does not exist or does not fit.
        """
        values = with_terms(config)
        for name in ("autoencoder", "quantizer"):
            if name not in values:
                raise UserError(f"config.task.{name} is missing; see configs/vqvae.py")
        values["quantizer"] = by_name(QUANTIZERS, values["quantizer"], "config.task.quantizer")
        fields = {**values["autoencoder"], "dim": values["quantizer"].dim}
        values["autoencoder"] = build(VQVAE, fields, "config.task.autoencoder")
        task = build(cls, values, "config.task")
        factor = task.autoencoder.downscale_factor
        if task.image_size % factor:
            raise UserError(
                f"config.task.image_size={task.image_size}: not divisible by {factor}, which the "
                "autoencoder shrinks images by (patch_size, twice for each further width)"
            )
        return task

    @property
    def required(self) -> str:
        """Encoder and codebook, where they are not trained."""
        return rf"^(model/({ENCODER})|codebook$)" if self.freeze_codes else "^$"

    @property
    def grid(self) -> tuple[int, int, int]:
        """Rows, columns and depth of an image's codes."""
        side = self.image_size // self.autoencoder.downscale_factor
        return side, side, self.quantizer.depth

    def init(self, rng, batch):
        x = pixels.to_signed(batch["image"])
        keys = jax.random.split(rng, 3)
        params = {"model": self.autoencoder.init(keys[0], x)["params"]}
        if self.discriminator is not None:
            params["disc"] = self.discriminator.init(keys[1], x)["params"]
        extra = {
            "codebook": self.quantizer.init(keys[2]),
            "updates": jnp.zeros((), jnp.int32),
        }
        return params, extra

    def predict_fns(self):
        return {"reconstruct": self._reconstruct, "encode": self._encode, "decode": self._decode}

    def predict_spec(self):
        image, codes = self.batch_spec(), {"codes": jax.ShapeDtypeStruct(self.grid, jnp.int32)}
        return {"reconstruct": image, "encode": image, "decode": codes}

    def components(self, variables, frozen):
        return {"vqvae": (self.autoencoder, variables["params"]["model"])}

    def _model_loss(self, params, everything, extra, batch, rngs, frozen):
        x = pixels.to_signed(batch["image"])
        if self.freeze_codes:
            return self._decoder_loss(x, params, everything, extra, rngs, frozen)
        z = self.autoencoder.apply({"params": params}, x, method="encode")
        start, later = jax.random.split(rngs["codebook"])
        book = self.quantizer.prepare(z, extra["codebook"], start)
        found = self.quantizer(z, book)
        y = self.autoencoder.apply({"params": params}, found.latent, method="decode")
        terms = {"commitment": (self.beta, found.commitment)}
        terms |= self.terms(x, y, everything, extra["updates"], frozen, rngs["window"])
        loss, metrics = self.total(terms, x, y)
        book, seen = self.quantizer.update(z, found, book, later)
        metrics |= {f"model/{name}": value for name, value in seen.items()}
        extra = {"codebook": book, "updates": extra["updates"] + 1}
        return loss, (metrics, extra)

    def _decoder_loss(self, x, params, everything, extra, rngs, frozen):
        known = {"params": params, "codebook": extra["codebook"]}
        y = self.images(known, jax.lax.stop_gradient(self.codes(known, x)))
        terms = self.terms(x, y, everything, extra["updates"], frozen, rngs["window"])
        loss, metrics = self.total(terms, x, y)
        return loss, (metrics, {**extra, "updates": extra["updates"] + 1})

    def _disc_loss(self, params, everything, extra, batch, rngs, frozen):
        x = pixels.to_signed(batch["image"])
        variables = {"params": everything, "extra": extra}
        codes = self.codes(self.as_frozen(variables), x)
        y = self.images(self.as_frozen(variables), codes)
        loss, metrics = self.told_apart(params, x, y)
        return loss, (metrics, extra)

    def as_frozen(self, variables) -> dict[str, Any]:
        """What `codes` and `images` take of a trained VQ-VAE."""
        return {
            "params": variables["params"]["model"],
            "codebook": variables["extra"].get("codebook", {}),
        }

    def codes(self, frozen: Mapping[str, Any], x: jax.Array) -> jax.Array:
        """Images [b, h, w, 3] in [-1, 1] to codes, int32 [b, *grid]."""
        z = self.autoencoder.apply({"params": frozen["params"]}, x, method="encode")
        return self.quantizer(z, frozen["codebook"]).codes

    def images(self, frozen: Mapping[str, Any], codes: jax.Array, *text: Any) -> jax.Array:
        """Codes [b, *grid] to images in about [-1, 1]; `text`, states and mask, steers the decoder
        where it hears any.
        """
        z = self.quantizer.lookup(codes, frozen["codebook"])
        return self.autoencoder.apply({"params": frozen["params"]}, z, *text, method="decode")

    def _reconstruct(self, variables, batch, rngs, frozen):
        codes = self._encode(variables, batch, rngs, frozen)
        return {**self._decode(variables, codes, rngs, frozen), **codes}

    def _encode(self, variables, batch, rngs, frozen):
        x = pixels.to_signed(batch["image"])
        return {"codes": self.codes(self.as_frozen(variables), x)}

    def _decode(self, variables, batch, rngs, frozen):
        y = self.images(self.as_frozen(variables), batch["codes"])
        return {"image": pixels.from_signed(y)}
