"""Restoration in latent space: a generative stage behind a trained restorer and an autoencoder.

A restorer that is trained by distances gives the mean of all images that a degraded one may have
been, which is smooth. This stage draws one of them: from the latent of the restorer's image (the
source) a UNet leads to a clean latent (`diffusion.restoration_paths`). What the latents differ by
is decoded and added to the restorer's image,

    output = first + strength * (D(z) - D(E(first))),

so that the autoencoder's own error cancels, and strength 0 is the restorer's image exactly. With a
decoder of its own, which sees the restorer's image, the difference is what that decoder returns.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common import pixels, ranges
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.data.degradations import PARAMETERS
from gen_jax.diffusion.restoration_paths import DEFAULT, RestorationPath
from gen_jax.models.detail_decoder import DetailDecoder
from gen_jax.models.unet_2d_condition import UNet2DConditionModel
from gen_jax.tasks import first_stage, text
from gen_jax.tasks.base import SEED, Task, upstream
from gen_jax.tasks.perceptual import PerceptualTerm, make_term
from gen_jax.tasks.restore import RestoreTask

_TEXT = ("tokens", "token_mask")
_RANGES = {
    "num_inference_steps": ranges.AT_LEAST_1,
    "condition_dropout_prob": ranges.SHARE,
    "guidance_scale": ranges.NOT_NEGATIVE,
    "perceptual_every": ranges.AT_LEAST_1,
}


@dataclasses.dataclass(frozen=True)
class RestoreLDMTask(Task):
    """Trains a UNet between latents of restored and of clean images.

    Attributes:
      unet: UNet of the noisy latent beside the source, conditioned on the degradation vector and,
        if `reads_text`, on the instruction.
      restorer: The first stage, whose parameters are `frozen["first_stage"]`.
      autoencoder: The autoencoder, whose parameters are `frozen["vae"]`.
      image_size: Side of the crops in pixels.
      latent_shape: Height, width and channels of a crop's latent.
      path: Form of the path and its numbers.
      reads_text: Whether the UNet attends to the states of the restorer's text encoder.
      condition_dropout_prob: Probability that degradation vector and instruction are left out, for
        guidance (arXiv:2207.12598).
      color_correction: Whether the lowest frequencies of the generated detail are left out, so that
        colors stay the restorer's (as the wavelet correction of arXiv:2305.07015).
      decoder: Decoder of the difference, trained along; None for that of the autoencoder.
      l1_weight: Weight of the mean absolute error of the decoded prediction, 0 for none.
      perceptual: Perceptual term, by name and encoder in the config.
      perceptual_weight: Weight of that term on the decoded prediction, 0 for none.
      perceptual_every: Share of a batch that the term sees: one image of so many.
      num_inference_steps: Calls of the UNet per image.
      guidance_scale: Scale of the guidance by vector and instruction, 1 for none.
    """

    unet: UNet2DConditionModel
    restorer: RestoreTask
    autoencoder: nn.Module
    image_size: int
    latent_shape: tuple[int, int, int]
    path: RestorationPath = DEFAULT
    reads_text: bool = False
    condition_dropout_prob: float = 0.1
    color_correction: bool = True
    decoder: DetailDecoder | None = None
    l1_weight: float = 0.0
    perceptual: PerceptualTerm | None = None
    perceptual_weight: float = 0.0
    perceptual_every: int = 1
    num_inference_steps: int = 4
    guidance_scale: float = 1.0

    parts: ClassVar = {
        "unet": Part(
            UNet2DConditionModel,
            derived=(
                *("sample_size", "in_channels", "out_channels", "cross_attention_dim"),
                *("class_embed_type", "projection_class_embeddings_input_dim"),
            ),
        ),
        "path": Part(RestorationPath),
        "decoder": Part(DetailDecoder, derived=("factor",)),
    }
    rng_streams = ("t", "noise", "drop_condition", "dropout")
    pipeline = "restoration"

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "RestoreLDMTask":
        """Builds it from `config.task`, a restorer ("first_stage") and an autoencoder ("vae").

        Raises:
          UserError: A key that does not exist or does not fit, or a model that is missing.
        """
        advice = "a generative stage begins with restored images; name a run of configs/restore.py"
        restorer = upstream(frozen_tasks, "first_stage", RestoreTask, advice)
        if "vae" not in (frozen_tasks or {}):
            raise UserError("config.frozen.vae is missing: name a trained autoencoder")
        if restorer.channels != 3:
            raise UserError(
                "config.frozen.first_stage: a restorer of gray images; the autoencoder works on "
                "color, name a restorer of 3 channels"
            )
        if restorer.text_encoder is not None and not text.is_trained(restorer.text_encoder):
            raise UserError(
                "config.frozen.first_stage: a restorer with a frozen text encoder, which this "
                "stage does not load; name one of configs/restore_text.py:encoder=compact"
            )
        for key in ("unet", "image_size"):
            if key not in config:
                raise UserError(f"config.task.{key} is missing; see configs/restore_ldm.py")
        autoencoder, values = frozen_tasks["vae"].autoencoder, dict(config)
        shape = first_stage.latent_shape(autoencoder, values["image_size"])
        reads_text = values.get("reads_text", False)
        if reads_text and restorer.text_encoder is None:
            raise UserError(
                "config.task.reads_text: the restorer of config.frozen.first_stage reads no text; "
                "name a run of configs/restore_text.py, or leave it out"
            )
        width = restorer.text_encoder.hidden_size if reads_text else len(PARAMETERS)
        unet = {
            **values["unet"],
            "sample_size": shape[0],
            "in_channels": 2 * shape[2],
            "out_channels": shape[2],
            "cross_attention_dim": width,
            "class_embed_type": "projection",
            "projection_class_embeddings_input_dim": len(PARAMETERS),
        }
        values |= {
            "unet": build(UNet2DConditionModel, unet, "config.task.unet"),
            "path": build(RestorationPath, values.get("path", {}), "config.task.path"),
            "restorer": restorer,
            "autoencoder": autoencoder,
            "latent_shape": shape,
        }
        term, encoder = (values.pop(k, "") for k in ("perceptual", "perceptual_encoder"))
        if values.get("perceptual_weight"):
            values["perceptual"] = make_term(term, encoder)
        if values.get("decoder"):
            factor = values["image_size"] // shape[0]
            fields = {**values["decoder"], "factor": factor}
            values["decoder"] = build(DetailDecoder, fields, "config.task.decoder")
        else:
            values.pop("decoder", None)
        task = build(cls, values, "config.task")
        ranges.check_fields(task, _RANGES, "config.task")
        task._check()
        return task

    def _check(self) -> None:
        weights = {k: getattr(self, k) for k in ("l1_weight", "perceptual_weight")}
        if self.decoder is not None and not any(weights.values()):
            raise UserError(
                "config.task.decoder: nothing trains it; set l1_weight or perceptual_weight"
            )
        for name, weight in weights.items():
            if weight and self.path.form == "noise" and self.decoder is None:
                raise UserError(
                    f"config.task.{name}={weight}: a path of the form noise predicts no image; "
                    "leave it at 0, choose flow or resshift, or train a decoder"
                )

    def frozen_encoders(self):
        return self.perceptual.frozen_encoders() if self.perceptual_weight else {}

    @property
    def network(self):
        """Network of the restorer, whose conditions are those of the images."""
        return self.restorer.network

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.restorer.channels

    @property
    def text_encoder(self):
        """Text encoder of the restorer if instructions are read, or None."""
        return self.restorer.text_encoder if self.reads_text else None

    def batch_spec(self):
        shape = (self.image_size, self.image_size, self.channels)
        spec = {
            **self.restorer.batch_spec(),
            "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
            "degraded": jax.ShapeDtypeStruct(shape, jnp.float32),
        }
        return spec if self.reads_text else _without_text(spec)

    def init(self, rng, batch):
        z = jnp.zeros((1, *self.latent_shape))
        width = self.unet.cross_attention_dim
        unet = self.unet.init(
            rng,
            jnp.concatenate([z, z], -1),
            jnp.zeros(1),
            jnp.zeros((1, 1, width)),
            class_labels=jnp.zeros((1, len(PARAMETERS))),
        )
        params = {"unet": unet["params"]}
        if self.decoder is not None:
            x = jnp.zeros((1, self.image_size, self.image_size, self.channels))
            params["decoder"] = self.decoder.init(jax.random.fold_in(rng, 1), z, z, x)["params"]
        return {"model": params}, {}

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        fns = {"restore": self._restore}
        return fns if self.restorer.estimator is None else fns | {"estimate": self._estimate}

    def predict_spec(self):
        spec = self.restorer.predict_spec()
        read = spec["restore"] if self.reads_text else _without_text(spec["restore"])
        image = jax.ShapeDtypeStruct((self.image_size, self.image_size, 3), jnp.float32)
        one = jax.ShapeDtypeStruct((), jnp.float32)
        drawn = {**read, "degraded": image, "seed": SEED, "strength": one}
        return {"restore": drawn} | (
            {"estimate": {"degraded": image}} if "estimate" in spec else {}
        )

    def sampling_settings(self):
        return {name: getattr(self, name) for name in ("num_inference_steps", "guidance_scale")}

    def _first(self, batch, frozen):
        """Returns the restorer's image in [0, 1] units, [b, h, w, 3], not clipped."""
        variables = {"params": {"model": frozen["first_stage"]["params"]}, "extra": {}}
        restore = self.restorer.predict_fns()["restore"]
        given = dict(batch)
        if self.restorer.text_encoder is not None and not self.reads_text:
            # Without an instruction a restorer restores in full.
            tokens, mask = text.empty(self.restorer.text_encoder, len(batch["degraded"]))
            given |= {"tokens": tokens, "token_mask": mask}
        return jax.lax.stop_gradient(restore(variables, given, {}, frozen)["restored"])

    def _condition(self, batch, frozen, keep=None):
        """Returns what the UNet is conditioned on.

        Args:
          batch: Examples.
          frozen: Parameters of the frozen models.
          keep: Which examples keep their condition [b]; None for all.
        """
        vector = batch["degradation"]
        if keep is not None:
            vector = jnp.where(keep[:, None], vector, 0.0)
        if not self.reads_text:
            return {"encoder_hidden_states": vector[:, None], "class_labels": vector}
        tokens, mask = batch["tokens"], batch["token_mask"]
        if keep is not None:
            empty_tokens, empty_mask = text.empty(self.text_encoder, len(tokens))
            tokens = jnp.where(keep[:, None], tokens, empty_tokens)
            mask = jnp.where(keep[:, None], mask, empty_mask)
        params = frozen["first_stage"]["params"]
        states, seen = text.encode(self.text_encoder, params, frozen, tokens, mask)
        return {
            "encoder_hidden_states": jax.lax.stop_gradient(states),
            "encoder_attention_mask": seen,
            "class_labels": vector,
        }

    def _unet(self, params, x_t, t, source, condition, **dropout):
        seen = jnp.concatenate([x_t, source], -1)
        return self.unet.apply({"params": params["unet"]}, seen, 1000.0 * t, **condition, **dropout)

    def _encode(self, x, frozen):
        """Returns the posterior mean of images in [0, 1]."""
        return first_stage.encode(self.autoencoder, frozen["vae"], 2.0 * x - 1.0, None)

    def _detail(self, params, z, source, first, frozen):
        """Returns what a latent adds to the restorer's image, in [0, 1] units."""
        if self.decoder is not None:
            detail = self.decoder.apply({"params": params["decoder"]}, z, source, first)
        else:
            decoded = (first_stage.decode(self.autoencoder, frozen["vae"], v) for v in (z, source))
            detail = (next(decoded) - next(decoded)) / 2.0
        return detail - low_frequencies(detail) if self.color_correction else detail

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        first = self._first(batch, frozen)
        clean = pixels.to_unit(batch["image"])
        source, x_0 = (jax.lax.stop_gradient(self._encode(v, frozen)) for v in (first, clean))
        count = x_0.shape[0]
        keep = ~jax.random.bernoulli(rngs["drop_condition"], self.condition_dropout_prob, (count,))
        t = self.path.sample_t(rngs["t"], count)
        eps = jax.random.normal(rngs["noise"], x_0.shape)
        x_t = self.path.noised(x_0, source, eps, t)
        condition = self._condition(batch, frozen, keep)
        dropout = {"deterministic": False, "rngs": {"dropout": rngs["dropout"]}}
        output = self._unet(params, x_t, t, source, condition, **dropout)
        loss = self.path.loss(output, x_0, eps, t).mean()
        metrics = {"model/latent": loss}
        if self.l1_weight or self.perceptual_weight:
            # Noise predictions are no latents: the decoder then learns from the clean ones.
            z = x_0 if self.path.form == "noise" else output
            image = first + self._detail(params, z, source, first, frozen)
            metrics["model/l1"] = jnp.abs(image - clean).mean()
            loss = loss + self.l1_weight * metrics["model/l1"]
        if self.perceptual_weight:
            some = max(1, count // self.perceptual_every)
            pair = (2.0 * v[:some] - 1.0 for v in (clean, image))
            metrics["model/perceptual"] = self.perceptual(*pair, frozen).mean()
            loss = loss + self.perceptual_weight * metrics["model/perceptual"]
        return loss, (metrics, extra)

    def _restore(self, variables, batch, rngs, frozen):
        """Restores "degraded", conditioned on "degradation" and the tokens.

        Besides them it reads, if given, "seed" [b], "strength" [b], the share of the generated
        detail (1 by default), and "noise" [b, hl, wl, z], which takes the place of the seed's.

        Returns:
          "restored" [b, h, w, 3] and "first_stage" [b, h, w, 3], the restorer's image.
        """
        params = variables["params"]["model"]
        first = self._first(batch, frozen)
        source = self._encode(first, frozen)
        condition = self._condition(batch, frozen)
        nothing = self._condition(batch, frozen, jnp.zeros(len(first), bool))

        def predict(x_t, t):
            output = self._unet(params, x_t, t, source, condition)
            if self.guidance_scale == 1:
                return output
            plain = self._unet(params, x_t, t, source, nothing)
            return plain + self.guidance_scale * (output - plain)

        seeds = batch.get("seed", jnp.zeros(len(first), jnp.uint32))
        keys = jax.vmap(jax.random.key)(seeds)
        steps, noise = self.num_inference_steps, batch.get("noise")
        z = self.path.sample(predict, source, keys, steps, noise)
        strength = batch.get("strength", jnp.ones(len(first)))[:, None, None, None]
        detail = self._detail(params, z, source, first, frozen)
        # Not `first + 0 * detail`: a detail that is not finite must not reach strength 0.
        restored = jnp.where(strength == 0, first, first + strength * detail)
        return {"restored": restored, "first_stage": first}

    def _estimate(self, variables, batch, rngs, frozen):
        """Returns the restorer's "estimate" [b, p] of "degraded"."""
        params = {"params": {"model": frozen["first_stage"]["params"]}, "extra": {}}
        return self.restorer.predict_fns()["estimate"](params, batch, {}, frozen)


def low_frequencies(x: Float[Array, "b h w c"], levels: int = 5) -> Float[Array, "b h w c"]:
    """Returns the coarsest level of an undecimated wavelet transform (a trous, linear B-spline).

    Args:
      x: Images.
      levels: Number of levels; each doubles the distance of the kernel's three taps.
    """
    for level in range(levels):
        far = 2**level
        for axis in (1, 2):
            width = [(far, far) if a == axis else (0, 0) for a in range(4)]
            padded, size = jnp.pad(x, width, mode="edge"), x.shape[axis]
            before, here, after = (
                jax.lax.slice_in_dim(padded, k * far, k * far + size, axis=axis) for k in range(3)
            )
            x = 0.25 * before + 0.5 * here + 0.25 * after
    return x


def _without_text(spec):
    return {key: value for key, value in spec.items() if key not in _TEXT}
