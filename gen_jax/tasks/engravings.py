"""The stage of captioned prints: one latent that decodes to an image and to its caption.

An autoencoder with a spatial and a pooled latent is trained with a caption decoder that attends to
both, with a contrastive loss between the pooled latent and the caption, and with a flow over the
latents, which draws them from seeds or from a caption.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from gen_jax.common import pixels, ranges
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.data.text.tokenizer import CompactTokenizer
from gen_jax.diffusion import guidance
from gen_jax.losses import contrastive
from gen_jax.models.caption_decoder import CaptionDecoder
from gen_jax.models.caption_sampling import sample_captions
from gen_jax.models.joint_autoencoder import JointAutoencoder, unit_mean_square
from gen_jax.models.latent_flow import LatentFlow, flow_loss, follow, velocity_fn
from gen_jax.models.layers.conditioning import masked_mean
from gen_jax.models.text_encoder import CompactTextEncoder
from gen_jax.tasks import first_stage
from gen_jax.tasks.base import SEED, Task

CONTRASTIVE = ("siglip", "info_nce")
_PADDING_WEIGHT = 0.1  # of the pixels that are only there to make the image square
_CAPTION, _LATENT = range(2)  # folded into the key of an image


class Projections(nn.Module):
    """Both sides of the contrastive loss, and its scale and bias.

    Attributes:
      dim: Numbers of an embedding.
    """

    dim: int = 128

    @nn.compact
    def __call__(self, pooled: Float[Array, "b d"], text: Float[Array, "b t"]):
        """Returns embeddings of images and of captions, the logarithm of the scale, and a bias."""
        log_scale = self.param("log_scale", nn.initializers.constant(jnp.log(10.0)), ())
        bias = self.param("logit_bias", nn.initializers.constant(-10.0), ())
        return nn.Dense(self.dim)(pooled), nn.Dense(self.dim)(text), log_scale, bias


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngravingsTask(Task):
    """Trains autoencoder, caption decoder, text encoder and the flow over latents at once.

    Attributes:
      autoencoder: Images to the spatial and the pooled latent, and back.
      caption_decoder: Latents to captions.
      text_encoder: Captions to states, for the contrastive loss and for the flow.
      projections: Both sides of the contrastive loss.
      flow: Noise to the joined latents, conditioned on a caption or on none.
      image_size: Side of the images in pixels.
      l1_weight: Weight of the absolute error of pixels.
      l2_weight: Weight of their squared error.
      caption_weight: Weight of the cross-entropy of the captions' tokens.
      contrastive: Contrastive loss, one of `CONTRASTIVE`.
      contrastive_weight: Its weight.
      flow_weight: Weight of the flow's loss, which does not reach the latents.
      latent_noise: Standard deviation of the noise on the latents in training, which have 1: the
        decoders learn to read latents that are a little wrong, as drawn ones are.
      text_dropout_prob: Probability that the flow is trained without the caption.
      guidance_scale: Guidance scale towards a prompt, 1 for none.
      num_inference_steps: Steps of the flow's integration.
      temperature: Temperature of the captions' tokens, 0 for the most likely ones.
      top_p: Probability of the set of tokens that captions are drawn from.
    """

    autoencoder: JointAutoencoder
    caption_decoder: CaptionDecoder
    text_encoder: CompactTextEncoder
    projections: Projections
    flow: LatentFlow
    image_size: int = 64
    l1_weight: float = 1.0
    l2_weight: float = 1.0
    caption_weight: float = 2.0
    contrastive: str = "siglip"
    contrastive_weight: float = 0.5
    flow_weight: float = 1.0
    latent_noise: float = 0.1
    text_dropout_prob: float = 0.5
    guidance_scale: float = 2.0
    num_inference_steps: int = 16
    temperature: float = 0.5
    top_p: float = 0.9

    parts: ClassVar = {
        "autoencoder": Part(JointAutoencoder),
        "caption_decoder": Part(CaptionDecoder, derived=("vocab_size", "max_length")),
        "text_encoder": Part({"compact": CompactTextEncoder}),
        "projections": Part(Projections),
        "flow": Part(LatentFlow),
    }
    rng_streams = ("latent_noise", "dropout", "drop_text", "flow")

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "EngravingsTask":
        """Builds it from `config.task`.

        Raises:
          UserError: A key that does not exist or does not fit.
        """
        values = dict(config)
        text = dict(values.get("text_encoder") or {})
        if text.pop("name", "compact") != "compact":
            raise UserError("config.task.text_encoder.name: expected compact")
        values["text_encoder"] = build(CompactTextEncoder, text, "config.task.text_encoder")
        # Both read and write the ids of one tokenizer.
        shared = {
            "vocab_size": values["text_encoder"].vocab_size,
            "max_length": values["text_encoder"].max_length,
        }
        for name, kind, derived in (
            ("autoencoder", JointAutoencoder, {}),
            ("caption_decoder", CaptionDecoder, shared),
            ("projections", Projections, {}),
            ("flow", LatentFlow, {}),
        ):
            fields = {**values.get(name, {}), **derived}
            values[name] = build(kind, fields, f"config.task.{name}")
        task = build(cls, values, "config.task")
        task._check()
        return task

    def _check(self) -> None:
        if self.contrastive not in CONTRASTIVE:
            raise UserError(
                f"config.task.contrastive={self.contrastive}: expected {' or '.join(CONTRASTIVE)}"
            )
        factor = self.autoencoder.downscale_factor
        if self.image_size % factor:
            raise UserError(
                f"config.task.image_size={self.image_size}: not divisible by {factor}, which the "
                "autoencoder shrinks images by (patch_size, twice for each further width)"
            )
        allowed = {
            "num_inference_steps": ranges.AT_LEAST_1,
            "top_p": ranges.Range(0, 1, open_low=True),
            "temperature": ranges.NOT_NEGATIVE,
            "latent_noise": ranges.NOT_NEGATIVE,
        }
        ranges.check_fields(self, allowed, "config.task")

    def batch_spec(self):
        side, length = self.image_size, (self.text_encoder.max_length,)
        return {
            "image": jax.ShapeDtypeStruct((side, side, 3), jnp.uint8),
            "mask": jax.ShapeDtypeStruct((side, side, 1), jnp.bool_),
            "tokens": jax.ShapeDtypeStruct(length, jnp.int32),
            "token_mask": jax.ShapeDtypeStruct(length, jnp.bool_),
        }

    def init(self, rng, batch):
        keys = jax.random.split(rng, 5)
        x, tokens, mask = _gray(batch["image"]), batch["tokens"], batch["token_mask"]
        (_, context), autoencoder = self.autoencoder.init_with_output(keys[0], x)
        states, text = self.text_encoder.init_with_output(keys[1], tokens, mask)
        caption = masked_mean(states, mask)
        decoder = self.caption_decoder.init(keys[2], tokens, context)
        pooled = jnp.zeros((len(x), self.autoencoder.pooled_dim))
        joined, t = jnp.zeros((len(x), self._latent_size)), jnp.zeros((len(x),))
        params = {
            "autoencoder": autoencoder,
            "text_encoder": text,
            "caption_decoder": decoder,
            "projections": self.projections.init(keys[3], pooled, caption),
            "flow": self.flow.init(keys[4], joined, t, caption),
        }
        return {"model": {name: tree["params"] for name, tree in params.items()}}, {}

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {"generate": self._generate, "reconstruct": self._reconstruct, "embed": self._embed}

    def predict_spec(self):
        spec = self.batch_spec()
        text = {key: spec[key] for key in ("tokens", "token_mask")}
        return {
            "generate": {"seed": SEED, **text},
            "reconstruct": {"image": spec["image"]},
            "embed": {"image": spec["image"], **text},
        }

    def sampling_settings(self):
        return {
            "guidance_scale": self.guidance_scale,
            "num_inference_steps": self.num_inference_steps,
            "temperature": self.temperature,
        }

    @property
    def _spatial_shape(self) -> tuple[int, int, int]:
        side = self.image_size // self.autoencoder.downscale_factor
        return side, side, self.autoencoder.spatial_channels

    @property
    def _latent_size(self) -> int:
        height, width, channels = self._spatial_shape
        return height * width * channels + self.autoencoder.pooled_dim

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        x, tokens, mask = _gray(batch["image"]), batch["tokens"], batch["token_mask"]
        spatial, pooled = self._autoencode("encode", params, x)
        keys = jax.random.split(rngs["latent_noise"])
        noisy = tuple(
            z + self.latent_noise * jax.random.normal(key, z.shape)
            for z, key in zip((spatial, pooled), keys)
        )
        caption = masked_mean(self._states(params, tokens, mask), mask)
        l1, l2 = pixel_errors(self._autoencode("decode", params, *noisy) - x, batch)
        losses = {
            "l1": (self.l1_weight, l1),
            "l2": (self.l2_weight, l2),
            "caption": (
                self.caption_weight,
                self._caption_loss(params, tokens, mask, noisy, rngs["dropout"]),
            ),
            "contrastive": (
                self.contrastive_weight,
                self._contrastive_loss(params, pooled, caption),
            ),
            "flow": (
                self.flow_weight,
                self._flow_loss(params, spatial, pooled, caption, rngs),
            ),
        }
        metrics = {f"model/{name}": value for name, (_, value) in losses.items()}
        metrics["model/psnr"] = -10.0 * jnp.log10(l2 / 4.0)
        return sum(weight * value for weight, value in losses.values()), (metrics, extra)

    def _caption_loss(self, params, tokens, mask, latents, rng):
        context = self._autoencode("context", params, *latents)
        logits = self.caption_decoder.apply(
            {"params": params["caption_decoder"]},
            tokens[:, :-1],
            context,
            deterministic=False,
            rngs={"dropout": rng},
        )
        each = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        counted = mask[:, 1:].astype(jnp.float32)
        return (each * counted).sum() / jnp.maximum(counted.sum(), 1.0)

    def _contrastive_loss(self, params, pooled, caption):
        image, text, log_scale, bias = self._project(params, pooled, caption)
        if self.contrastive == "siglip":
            return contrastive.siglip(image, text, log_scale, bias).mean()
        return contrastive.info_nce(image, text, log_scale).mean()

    def _flow_loss(self, params, spatial, pooled, caption, rngs):
        joined = jax.lax.stop_gradient(_join(spatial, pooled))
        is_kept = ~jax.random.bernoulli(rngs["drop_text"], self.text_dropout_prob, (len(joined),))
        condition = jax.lax.stop_gradient(caption) * is_kept[:, None]
        return flow_loss(self.flow, params["flow"], joined, rngs["flow"], condition).mean()

    def _autoencode(self, method: str, params, *args):
        """Returns "encode" of images, or "decode" or "context" of latents."""
        return self.autoencoder.apply({"params": params["autoencoder"]}, *args, method=method)

    def _states(self, params, tokens, mask):
        return self.text_encoder.apply({"params": params["text_encoder"]}, tokens, mask)

    def _project(self, params, pooled, caption):
        return self.projections.apply({"params": params["projections"]}, pooled, caption)

    def _generate(self, variables, batch, rngs, frozen):
        params = variables["params"]["model"]
        keys = jax.vmap(jax.random.key)(batch["seed"].astype(jnp.uint32))
        noise_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, _LATENT)
        noise = jax.vmap(lambda key: jax.random.normal(key, (self._latent_size,)))(noise_keys)
        mask = batch["token_mask"]
        caption = masked_mean(self._states(params, batch["tokens"], mask), mask)
        # The empty prompt has a start and an end and no word: no condition.
        condition = caption * (mask.sum(-1) > 2)[:, None]
        velocity = guidance.guided(
            velocity_fn(self.flow, params["flow"], condition),
            velocity_fn(self.flow, params["flow"], jnp.zeros_like(condition)),
            self.guidance_scale,
        )
        spatial, pooled = self._split(follow(velocity, noise, self.num_inference_steps))
        return self._both(params, spatial, pooled, keys)

    def _reconstruct(self, variables, batch, rngs, frozen):
        params = variables["params"]["model"]
        spatial, pooled = self._autoencode("encode", params, _gray(batch["image"]))
        # One key for all: at a temperature of 0 it is not used.
        keys = jax.vmap(jax.random.key)(jnp.zeros((len(pooled),), jnp.uint32))
        greedy = dataclasses.replace(self, temperature=0.0)
        return greedy._both(params, spatial, pooled, keys)

    def _embed(self, variables, batch, rngs, frozen):
        params, mask = variables["params"]["model"], batch["token_mask"]
        _, pooled = self._autoencode("encode", params, _gray(batch["image"]))
        caption = masked_mean(self._states(params, batch["tokens"], mask), mask)
        image, text, _, _ = self._project(params, pooled, caption)
        return {"image_embedding": image, "text_embedding": text}

    def _both(self, params, spatial, pooled, keys):
        """Returns the images and captions of latents."""
        y = self._autoencode("decode", params, spatial, pooled)
        tokens = sample_captions(
            self.caption_decoder,
            params["caption_decoder"],
            self._autoencode("context", params, spatial, pooled),
            jax.vmap(jax.random.fold_in, (0, None))(keys, _CAPTION),
            bos_id=CompactTokenizer.bos_id,
            eos_id=CompactTokenizer.eos_id,
            pad_id=CompactTokenizer.pad_id,
            temperature=self.temperature,
            top_p=self.top_p,
        )
        return {**first_stage.to_images(jnp.repeat(y, 3, axis=-1)), "caption": tokens}

    def _split(self, joined: Float[Array, "b d"]):
        """Returns the spatial and the pooled latent of drawn numbers, at their exact size."""
        size = self._latent_size - self.autoencoder.pooled_dim
        spatial = joined[:, :size].reshape(-1, *self._spatial_shape)
        return unit_mean_square(spatial), unit_mean_square(joined[:, size:])


def _gray(image: jax.Array) -> jax.Array:
    """Returns uint8 images [b, h, w, 3] as one channel in [-1, 1]."""
    return pixels.to_signed(image).mean(-1, keepdims=True)


def _join(spatial: Float[Array, "b h w z"], pooled: Float[Array, "b d"]) -> Float[Array, "b n"]:
    return jnp.concatenate([spatial.reshape(len(spatial), -1), pooled], axis=-1)


def pixel_errors(
    error: Float[Array, "b h w 1"], batch: Mapping[str, jax.Array]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the mean absolute and squared error, the padding at a small weight.

    Args:
      error: Images less their targets.
      batch: "mask" is False at the padding.
    """
    weight = jnp.where(batch["mask"], 1.0, _PADDING_WEIGHT)
    weight = weight / weight.mean()
    return (weight * jnp.abs(error)).mean(), (weight * jnp.square(error)).mean()
