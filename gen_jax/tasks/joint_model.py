"""The networks of the engravings stage as one model of images, captions and noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt

from gen_jax.common import pixels
from gen_jax.data.text.tokenizer import CompactTokenizer
from gen_jax.encoders.mobilenet_v2 import MobileNetV2, MobileNetV2Outputs
from gen_jax.models import joint_flow
from gen_jax.models.caption_decoder import CaptionDecoder
from gen_jax.models.caption_sampling import sample_captions
from gen_jax.models.caption_side import CaptionSide
from gen_jax.models.joint_autoencoder import JointAutoencoder, coarse_first, unit_mean_square
from gen_jax.models.joint_flow import JointFlow, JointLatents, Times
from gen_jax.models.text_encoder import CompactTextEncoder
from gen_jax.tasks import first_stage

BACKBONE = MobileNetV2(num_classes=0)
_CAPTION, _LATENT = range(2)  # folded into the key of an image


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointModel:
    """Pure functions of the parameters `params` of all networks, by name of the network.

    Attributes:
      autoencoder: Images to the spatial and the pooled latent, and back.
      caption_decoder: Latents to captions.
      text_encoder: Captions to states.
      caption_side: States to latents of captions, and both sides of the contrastive loss.
      flow: Draws the latents of images and captions from each other, or from noise.
      image_size: Side of the images in pixels.
      backbone: Pretrained image encoder whose features the pooled latent reads, "mobilenet-v2" or
        "mobilenet-v2:WEIGHTS" with what a fresh run begins with; "" leaves it out.
      trains_backbone: Whether the backbone is trained along.
      backbone_size: Side in pixels that the backbone's inputs are resized to.
      guidance_scale: Guidance scale towards a prompt, 1 for none.
      num_inference_steps: Steps of the flow's integration.
      temperature: Temperature of the captions' tokens, 0 for the most likely ones.
      top_p: Probability of the set of tokens that captions are drawn from.
      repetition_penalty: Penalty of tokens that a drawn caption already has, 1 for none
        (arXiv:1909.05858).
    """

    autoencoder: JointAutoencoder
    caption_decoder: CaptionDecoder
    text_encoder: CompactTextEncoder
    caption_side: CaptionSide
    flow: JointFlow
    image_size: int = 96
    backbone: str = ""
    trains_backbone: bool = False
    backbone_size: int = 128
    guidance_scale: float = 2.0
    num_inference_steps: int = 16
    temperature: float = 0.5
    top_p: float = 0.9
    repetition_penalty: float = 1.1

    @property
    def latent_size(self) -> int:
        """Returns how many numbers the joined latents of an image and its caption have."""
        return sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda: self.zeros(1))))

    def zeros(self, count: int) -> JointLatents:
        """Returns `count` latents of zeros."""
        side = self.image_size // self.autoencoder.downscale_factor
        return JointLatents(
            spatial=jnp.zeros((count, side, side, self.autoencoder.spatial_channels)),
            pooled=jnp.zeros((count, self.autoencoder.pooled_dim)),
            caption=jnp.zeros((count, self.caption_side.latent_dim)),
        )

    def noise(self, seeds: UInt[Array, " b"]) -> Float[Array, "b n"]:
        """Returns the joined noise that the flow begins with, of each seed on its own."""
        keys = jax.vmap(jax.random.fold_in, (0, None))(_keys(seeds), _LATENT)
        return jax.vmap(lambda key: jax.random.normal(key, (self.latent_size,)))(keys)

    def encode_images(self, params, x: Float[Array, "b h w 1"], dropout=None):
        """Returns the spatial and the pooled latent of images; `dropout` is a key in training."""
        features = None
        if self.backbone:
            features = self.backbone_outputs(params, self.enlarged(x)).pooled
        return self.autoencoder.apply(
            {"params": params["autoencoder"]},
            x,
            features,
            dropout is None,
            method="encode",
            rngs={} if dropout is None else {"dropout": dropout},
        )

    def backbone_outputs(self, params, x: Float[Array, "b h w 1"]) -> MobileNetV2Outputs:
        """Returns what the pretrained encoder makes of images in [-1, 1]."""
        weights = params["backbone"]
        if not self.trains_backbone:
            weights = jax.lax.stop_gradient(weights)
        return BACKBONE.apply({"params": weights}, jnp.repeat(x, 3, axis=-1))

    def enlarged(self, x: Float[Array, "b h w 1"]) -> Float[Array, "b s s 1"]:
        """Returns images at the size that the pretrained encoder reads."""
        side = self.backbone_size
        return jax.image.resize(x, (len(x), side, side, 1), "cubic")

    def autoencode(self, method: str, params, *args):
        """Returns "decode" or "context" of latents."""
        return self.autoencoder.apply({"params": params["autoencoder"]}, *args, method=method)

    def captions(self, method: str, params, *args):
        """Returns what a method of `CaptionSide` gives."""
        return self.caption_side.apply({"params": params["caption_side"]}, *args, method=method)

    def states(self, params, tokens, mask):
        """Returns the states of captions, one per token."""
        return self.text_encoder.apply({"params": params["text_encoder"]}, tokens, mask)

    def context(self, params, latents: JointLatents, has_caption: Bool[Array, " b"]):
        """Returns what the caption decoder attends to."""
        image = self.autoencode("context", params, latents.spatial, latents.pooled)
        caption = self.captions("context", params, latents.caption, has_caption)
        return jnp.concatenate([image, caption.astype(image.dtype)], axis=1)

    def draw(self, params, noise, given: JointLatents, is_given: Times) -> JointLatents:
        """Returns latents of which one side may be given, and the others come from noise."""
        latents = joint_flow.sample(
            self.flow,
            params["flow"],
            self.split(noise),
            self.to_flow(given),
            is_given,
            guidance_scale=self.guidance_scale,
            steps=self.num_inference_steps,
        )
        return sized(latents.replace(spatial=latents.spatial / self._flow_scale))

    def to_flow(self, latents: JointLatents) -> JointLatents:
        """Returns latents as the flow has them: the coarse is larger than the fine."""
        return latents.replace(spatial=latents.spatial * self._flow_scale)

    @property
    def _flow_scale(self) -> Float[Array, "1 1 1 z"]:
        factor = self.autoencoder.downscale_factor
        scale = coarse_first(self.autoencoder.spatial_channels, factor**2)
        return jnp.asarray(scale)[None, None, None]

    def decode_latents(self, params, latents: JointLatents, seeds, has_caption=True):
        """Returns the images and captions of latents."""
        y = self.autoencode("decode", params, latents.spatial, latents.pooled)
        has_caption = jnp.broadcast_to(has_caption, (len(y),))
        tokens = sample_captions(
            self.caption_decoder,
            params["caption_decoder"],
            self.context(params, latents, has_caption),
            jax.vmap(jax.random.fold_in, (0, None))(_keys(seeds), _CAPTION),
            bos_id=CompactTokenizer.bos_id,
            eos_id=CompactTokenizer.eos_id,
            pad_id=CompactTokenizer.pad_id,
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
        )
        return {**first_stage.to_images(jnp.repeat(y, 3, axis=-1)), "caption": tokens}

    @staticmethod
    def join(latents: JointLatents) -> Float[Array, "b n"]:
        """Returns spatial, pooled and caption latents in one row per example."""
        parts = (latents.spatial, latents.pooled, latents.caption)
        return jnp.concatenate([z.reshape(len(z), -1) for z in parts], axis=-1)

    def split(self, joined: Float[Array | np.ndarray, "b n"]) -> JointLatents:
        """Returns the latents that `join` joined."""
        like = jax.eval_shape(lambda: self.zeros(1))
        shapes = (like.spatial.shape[1:], like.pooled.shape[1:], like.caption.shape[1:])
        sizes = [leaf.size for leaf in (like.spatial, like.pooled)]
        parts = jnp.split(joined, [sizes[0], sum(sizes)], axis=-1)
        return JointLatents(*(z.reshape(-1, *shape) for z, shape in zip(parts, shapes)))


def sized(latents: JointLatents) -> JointLatents:
    """Returns latents whose pooled one and caption have a mean square of 1, as encoded ones do."""
    return latents.replace(
        pooled=unit_mean_square(latents.pooled), caption=unit_mean_square(latents.caption)
    )


def _keys(seeds: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.key)(seeds.astype(jnp.uint32))


def to_gray(image: jax.Array) -> jax.Array:
    """Returns uint8 images [b, h, w, 3] as one channel in [-1, 1]."""
    return pixels.to_signed(image).mean(-1, keepdims=True)
