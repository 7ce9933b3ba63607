"""The stage of captioned prints: one latent that decodes to an image and to its caption.

An autoencoder with a spatial and a pooled latent is trained with a caption decoder that attends to
both, with a contrastive loss between the pooled latent and the caption, and with a flow over the
latents of image and caption, which draws either from the other, or both from a seed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from gen_jax.common import ranges
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.losses import contrastive
from gen_jax.losses.padded_images import feature_distance, pixel_errors
from gen_jax.models import joint_flow
from gen_jax.models.caption_decoder import CaptionDecoder
from gen_jax.models.caption_side import CaptionSide
from gen_jax.models.joint_autoencoder import JointAutoencoder, size_loss
from gen_jax.models.joint_flow import JointFlow, JointLatents, Times
from gen_jax.models.layers.conditioning import masked_mean
from gen_jax.models.text_encoder import CompactTextEncoder
from gen_jax.tasks.base import SEED, Task
from gen_jax.tasks.joint_model import BACKBONE, JointModel, sized, to_gray

CONTRASTIVE = ("siglip", "info_nce")
_PERCEPTUAL_STAGES = (1, 2, 3)  # 16, 24 and 32 channels at 1/2, 1/4 and 1/8 of the size


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngravingsTask(JointModel, Task):
    """Trains autoencoder, caption decoder, text encoder and the flow over latents at once.

    Attributes, beside those of `JointModel`:
      perceptual_weight: Weight of the distance of images and reconstructions in the backbone's
        first stages (arXiv:1801.03924); 0 leaves it out, as a run without a backbone does.
      l1_weight: Weight of the absolute error of pixels.
      l2_weight: Weight of their squared error.
      caption_weight: Weight of the cross-entropy of the captions' tokens.
      contrastive: Contrastive loss, one of `CONTRASTIVE`.
      contrastive_weight: Its weight.
      size_weight: Weight of the loss that keeps each channel of the spatial latent at a mean square
        of 1.
      flow_weight: Weight of the flow's loss, which does not reach the latents.
      latent_noise: Standard deviation of the noise on the latents in training, which have 1: the
        decoders learn to read latents that are a little wrong, as drawn ones are.
      caption_latent_prob: Probability that a caption is decoded with its own latent beside the
        image's; otherwise from the image alone.
    """

    perceptual_weight: float = 0.1
    l1_weight: float = 1.0
    l2_weight: float = 1.0
    caption_weight: float = 2.0
    contrastive: str = "siglip"
    contrastive_weight: float = 0.5
    size_weight: float = 0.01
    flow_weight: float = 1.0
    latent_noise: float = 0.1
    caption_latent_prob: float = 0.3

    parts: ClassVar = {
        "autoencoder": Part(JointAutoencoder),
        "caption_decoder": Part(CaptionDecoder, derived=("vocab_size", "max_length")),
        "text_encoder": Part({"compact": CompactTextEncoder}),
        "caption_side": Part(CaptionSide, derived=("context_dim",)),
        "flow": Part(JointFlow),
    }
    pipeline = "captioned"
    rng_streams = ("latent_noise", "dropout", "drop_caption", "flow")

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
        values["text_encoder"] = encoder = build(
            CompactTextEncoder, text, "config.task.text_encoder"
        )
        autoencoder = build(
            JointAutoencoder, values.get("autoencoder", {}), "config.task.autoencoder"
        )
        values["autoencoder"] = autoencoder
        # Both read and write the ids of one tokenizer.
        shared = {"vocab_size": encoder.vocab_size, "max_length": encoder.max_length}
        for name, kind, derived in (
            ("caption_decoder", CaptionDecoder, shared),
            ("caption_side", CaptionSide, {"context_dim": autoencoder.context_dim}),
            ("flow", JointFlow, {}),
        ):
            fields = {**(values.get(name) or {}), **derived}
            values[name] = build(kind, fields, f"config.task.{name}")
        task = build(cls, values, "config.task")
        task._check()
        return task

    def _check(self) -> None:
        if self.contrastive not in CONTRASTIVE:
            raise UserError(
                f"config.task.contrastive={self.contrastive}: expected {' or '.join(CONTRASTIVE)}"
            )
        if self.backbone.partition(":")[0] not in ("", "mobilenet-v2"):
            raise UserError(
                f"config.task.backbone={self.backbone}: expected mobilenet-v2:WEIGHTS, or nothing"
            )
        factor = self.autoencoder.downscale_factor
        if self.image_size % factor:
            raise UserError(
                f"config.task.image_size={self.image_size}: not divisible by {factor}, which the "
                "autoencoder shrinks images by (patch_size, twice for each further width)"
            )
        allowed = {
            "backbone_size": ranges.AT_LEAST_1,
            "num_inference_steps": ranges.AT_LEAST_1,
            "top_p": ranges.Range(0, 1, open_low=True),
            "temperature": ranges.NOT_NEGATIVE,
            "latent_noise": ranges.NOT_NEGATIVE,
            "caption_latent_prob": ranges.SHARE,
            "repetition_penalty": ranges.Range(1, 10),
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
        keys = jax.random.split(rng, 6)
        x, tokens, mask = to_gray(batch["image"]), batch["tokens"], batch["token_mask"]
        params, features = {}, None
        if self.backbone:
            inputs = jnp.repeat(self.enlarged(x), 3, axis=-1)
            out, params["backbone"] = BACKBONE.init_with_output(keys[5], inputs)
            features = out.pooled
        (_, context), params["autoencoder"] = self.autoencoder.init_with_output(
            keys[0], x, features
        )
        states, params["text_encoder"] = self.text_encoder.init_with_output(keys[1], tokens, mask)
        params["caption_decoder"] = self.caption_decoder.init(keys[2], tokens, context)
        pooled = jnp.zeros((len(x), self.autoencoder.pooled_dim))
        params["caption_side"] = self.caption_side.init(keys[3], states, mask, pooled)
        latents, times = self.zeros(len(x)), Times(*jnp.zeros((2, len(x))))
        params["flow"] = self.flow.init(keys[4], latents, times)
        return {"model": {name: tree["params"] for name, tree in params.items()}}, {}

    def pretrained(self):
        _, colon, weights = self.backbone.partition(":")
        return {"backbone": self.backbone} if colon and weights else {}

    def untrained(self):
        # The statistics of its batch norms are no weights.
        return r"^backbone/.*/(mean|var)$" if self.trains_backbone else "^backbone/"

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {
            "generate": self._generate,
            "sample": self._sample,
            "reconstruct": self._reconstruct,
            "encode": self._encode,
            "decode": self._decode,
            "describe": self._describe,
            "embed": self._embed,
        }

    def predict_spec(self):
        spec = self.batch_spec()
        text = {key: spec[key] for key in ("tokens", "token_mask")}
        latent = jax.ShapeDtypeStruct((self.latent_size,), jnp.float32)
        return {
            "generate": {"seed": SEED, **text},
            "sample": {"noise": latent, "seed": SEED, **text},
            "reconstruct": {"image": spec["image"]},
            "encode": {"image": spec["image"], **text},
            "decode": {"latent": latent, "seed": SEED},
            "describe": {"image": spec["image"], "seed": SEED},
            "embed": {"image": spec["image"], **text},
        }

    def sampling_settings(self):
        return {
            "guidance_scale": self.guidance_scale,
            "num_inference_steps": self.num_inference_steps,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
        }

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        x, tokens, mask = to_gray(batch["image"]), batch["tokens"], batch["token_mask"]
        spatial, pooled = self.encode_images(params, x, rngs["dropout"])
        states = self.states(params, tokens, mask)
        clean = JointLatents(spatial, pooled, self.captions("latent", params, states, mask))
        noise = joint_flow.noise_like(rngs["latent_noise"], clean)
        noisy = jax.tree.map(lambda z, n: z + self.latent_noise * n, clean, noise)
        losses = {}
        # What has no weight is not computed: a run may train the flow alone.
        if self.l1_weight or self.l2_weight:
            losses |= self._image_losses(params, x, noisy, batch["mask"])
        if self.caption_weight:
            keys = rngs["drop_caption"], rngs["dropout"]
            loss = self._caption_loss(params, tokens, mask, noisy, keys)
            losses["caption"] = (self.caption_weight, loss)
        if self.contrastive_weight:
            loss = self._contrastive_loss(params, pooled, masked_mean(states, mask))
            losses["contrastive"] = (self.contrastive_weight, loss)
        if self.size_weight and spatial.size:
            losses["size"] = (self.size_weight, size_loss(spatial))
        if self.flow_weight:
            fixed = jax.lax.stop_gradient(self.to_flow(clean))
            each = joint_flow.joint_flow_loss(self.flow, params["flow"], fixed, rngs["flow"])
            losses["flow"] = (self.flow_weight, each.mean())
        metrics = {f"model/{name}": value for name, (_, value) in losses.items()}
        if "model/l2" in metrics:
            metrics["model/psnr"] = -10.0 * jnp.log10(metrics["model/l2"] / 4.0)
        return sum(weight * value for weight, value in losses.values()), (metrics, extra)

    def _image_losses(self, params, x, noisy: JointLatents, mask):
        """Returns name -> (weight, loss) of what the decoded image is compared by."""
        decoded = self.autoencode("decode", params, noisy.spatial, noisy.pooled)
        l1, l2 = pixel_errors(decoded - x, mask)
        losses = {"l1": (self.l1_weight, l1), "l2": (self.l2_weight, l2)}
        if self.backbone and self.perceptual_weight:
            distance = self._perceptual_loss(params, x, decoded)
            losses["perceptual"] = (self.perceptual_weight, distance)
        return losses

    def _caption_loss(self, params, tokens, mask, noisy: JointLatents, keys):
        shape = (len(tokens),)
        has_latent = jax.random.bernoulli(keys[0], self.caption_latent_prob, shape)
        context = self.context(params, noisy, has_latent)
        logits = self.caption_decoder.apply(
            {"params": params["caption_decoder"]},
            tokens[:, :-1],
            context,
            deterministic=False,
            rngs={"dropout": keys[1]},
        )
        each = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        counted = mask[:, 1:].astype(jnp.float32)
        return (each * counted).sum() / jnp.maximum(counted.sum(), 1.0)

    def _contrastive_loss(self, params, pooled, text):
        image, text, log_scale, bias = self.captions("embeddings", params, pooled, text)
        if self.contrastive == "siglip":
            return contrastive.siglip(image, text, log_scale, bias).mean()
        return contrastive.info_nce(image, text, log_scale).mean()

    def _perceptual_loss(self, params, x, decoded):
        # At the images' own size: the first stages see lines, not what is shown.
        outputs = (self.backbone_outputs(params, images) for images in (x, decoded))
        return feature_distance(*([out.stages[i] for i in _PERCEPTUAL_STAGES] for out in outputs))

    def _generate(self, variables, batch, rngs, frozen):
        return self._sample(variables, {**batch, "noise": self.noise(batch["seed"])}, rngs, frozen)

    def _sample(self, variables, batch, rngs, frozen):
        """Images and captions from noise; a prompt is given to the flow as the caption's latent."""
        params, mask = variables["params"]["model"], batch["token_mask"]
        states = self.states(params, batch["tokens"], mask)
        given = self.zeros(len(mask)).replace(caption=self.captions("latent", params, states, mask))
        # The empty prompt has a start and an end and no word: nothing is given.
        has_prompt = mask.sum(-1) > 2
        is_given = Times(jnp.zeros_like(has_prompt), has_prompt)
        latents = self.draw(params, batch["noise"], given, is_given)
        return {**self.decode_latents(params, latents, batch["seed"]), "latent": self.join(latents)}

    def _describe(self, variables, batch, rngs, frozen):
        """Captions by way of the flow: what it draws as the latent of a caption of the image."""
        params = variables["params"]["model"]
        spatial, pooled = self.encode_images(params, to_gray(batch["image"]))
        given = self.zeros(len(pooled)).replace(spatial=spatial, pooled=pooled)
        yes = jnp.ones((len(pooled),), bool)
        latents = self.draw(params, self.noise(batch["seed"]), given, Times(yes, ~yes))
        return {"caption": self.decode_latents(params, latents, batch["seed"])["caption"]}

    def _reconstruct(self, variables, batch, rngs, frozen):
        """Images by way of their latents, and the most likely captions of the images alone."""
        params = variables["params"]["model"]
        spatial, pooled = self.encode_images(params, to_gray(batch["image"]))
        latents = self.zeros(len(pooled)).replace(spatial=spatial, pooled=pooled)
        seeds = jnp.zeros((len(pooled),), jnp.uint32)  # not used at a temperature of 0
        greedy = dataclasses.replace(self, temperature=0.0, repetition_penalty=1.0)
        return greedy.decode_latents(params, latents, seeds, has_caption=False)

    def _encode(self, variables, batch, rngs, frozen):
        """Joined latents of images; the caption's is 0 for an empty caption: it is not given."""
        params, mask = variables["params"]["model"], batch["token_mask"]
        spatial, pooled = self.encode_images(params, to_gray(batch["image"]))
        states = self.states(params, batch["tokens"], mask)
        caption = self.captions("latent", params, states, mask)
        caption = caption * (mask.sum(-1) > 2)[:, None]
        return {"latent": self.join(JointLatents(spatial, pooled, caption))}

    def _decode(self, variables, batch, rngs, frozen):
        """Images and captions of joined latents, whose size is put right first."""
        latents = sized(self.split(batch["latent"]))
        has_caption = jnp.square(latents.caption).mean(-1) > 0.5
        params = variables["params"]["model"]
        return self.decode_latents(params, latents, batch["seed"], has_caption)

    def _embed(self, variables, batch, rngs, frozen):
        params, mask = variables["params"]["model"], batch["token_mask"]
        _, pooled = self.encode_images(params, to_gray(batch["image"]))
        text = masked_mean(self.states(params, batch["tokens"], mask), mask)
        image, text, _, _ = self.captions("embeddings", params, pooled, text)
        return {"image_embedding": image, "text_embedding": text}
