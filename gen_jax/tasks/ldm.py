"""The latent diffusion stage: a text-conditioned UNet behind a frozen autoencoder."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common import pixels
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.diffusion import guidance, samplers
from gen_jax.diffusion.mean_flow import SAMPLER
from gen_jax.diffusion.schedules import Process, make_process
from gen_jax.encoders.weights import DIFFUSERS
from gen_jax.models.text_layout import TextLayout
from gen_jax.models.unet_2d_condition import UNet2DConditionModel
from gen_jax.tasks import (
    average_velocity,
    first_stage,
    latent_sampling,
    released,
    text,
    unet_inputs,
)
from gen_jax.tasks.base import SEED, Task


@dataclasses.dataclass(frozen=True)
class LDMTask(Task):
    """Trains a denoiser of latents (arXiv 2112.10752) given tokens.

    Attributes:
      unet: the denoiser.
      text_encoder: tokens to states; trained along, or a frozen encoder (`tasks.text`).
      autoencoder: the frozen first stage.
      process: the forward process and what the UNet predicts.
      image_size: side of the square images, in pixels.
      latent_shape: height, width and channels of a latent.
      sample_posterior: learn draws from the autoencoder's posterior; False learns its mean, which
        leaves out noise that nobody can predict, where the decoder has learnt to do without.
      text_dropout_prob: probability that a caption is emptied, for guidance (arXiv 2207.12598).
      num_time_bins: parts of the time range that the error is reported for.
      sampler: default of `generate`, see `diffusion.samplers`.
      sampler_options: options of the samplers, such as those of a released pipeline's scheduler
        config (`diffusion.scheduler_config`).
      scheduler_config: That scheduler config, from which another sampler takes over what its class
        knows; empty for a run that has none.
      num_inference_steps: its steps.
      guidance_scale: its guidance, 1 for none.
      guidance_rescale: share of the contrast put back (arXiv 2305.08891).
      guidance_interval: part of the time range that is guided, from 0 (no noise) to 1
        (arXiv 2404.07724): at little noise guidance only frays what stands already.
      strength: Share of the steps that the latents of an image take, if "sample" starts from some.
      use_coordinates: give the UNet each position's place as two more channels. Convolutions find
        out late where they are (arXiv 1807.03247), and until then "top left" means nothing.
      patch_size: side of the squares of latents that the UNet sees as one position, as in
        arXiv 2212.09748: 2 leaves a quarter of the positions to compute.
      mean_flow: settings of `process.objective="meanflow"`, which learns average velocities for
        sampling in one step (arXiv:2505.13447). Other objectives do not read them.
      layout_channels: Channels of a map that is projected from the pooled text and joins the
        latent (`TextLayout`), 0 for none.
    """

    unet: UNet2DConditionModel
    # `field()`: without it the default of `Task` would count as this field's.
    text_encoder: nn.Module | text.FrozenText = dataclasses.field()
    autoencoder: nn.Module
    process: Process
    image_size: int
    latent_shape: tuple[int, int, int]
    sample_posterior: bool = True
    text_dropout_prob: float = 0.1
    num_time_bins: int = 4
    sampler: str = "dpmpp_2m"
    sampler_options: samplers.SamplerOptions = samplers.DEFAULTS
    num_inference_steps: int = 20
    guidance_scale: float = 3.0
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    strength: float = 1.0
    use_coordinates: bool = False
    patch_size: int = 1
    mean_flow: average_velocity.MeanFlow = average_velocity.PUBLISHED
    layout_channels: int = 0
    # Not compared: it changes no result of this sampler, and a dict has no hash.
    scheduler_config: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    parts: ClassVar = {
        "unet": Part(
            UNet2DConditionModel,
            derived=(
                *("sample_size", "in_channels", "out_channels", "cross_attention_dim"),
                "projection_class_embeddings_input_dim",
            ),
        ),
        "text_encoder": Part(text.CONFIGS),
        "process": Part(make_process),
        "sampler_options": Part(samplers.SamplerOptions),
        "mean_flow": Part(average_velocity.MeanFlow),
    }
    rng_streams = ("latent", "t", "noise", "drop_text", "dropout")
    pipeline = "text_to_image"

    def __post_init__(self):
        average_velocity.check(self)

    @property
    def is_mean_flow(self) -> bool:
        """Whether the UNet predicts average velocities."""
        return self.process.objective == average_velocity.OBJECTIVE

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "LDMTask":
        """Builds it from `config.task` and the tasks of the trained autoencoder (`vae`)
        and, where the text encoder is a frozen one, of its encoder (`text`).

        Raises:
          UserError: a key that does not exist or does not fit.
        """
        values = dict(config)
        if not frozen_tasks or "vae" not in frozen_tasks:
            raise UserError(
                "config.frozen.vae is missing: name a trained autoencoder, or set "
                "config.requires.vae to a config that trains one"
            )
        for key in ("unet", "text_encoder", "process", "image_size"):
            if key not in values:
                raise UserError(f"config.task.{key} is missing: the ldm task needs it")
        autoencoder = frozen_tasks["vae"].autoencoder
        side = values["image_size"]
        latent_shape = first_stage.latent_shape(autoencoder, side)
        text_encoder = text.build_text_encoder(values["text_encoder"], frozen_tasks)
        unet = unet_inputs.unet_config(values, latent_shape, text_encoder.hidden_size)
        values |= {
            "unet": build(UNet2DConditionModel, unet, "config.task.unet"),
            "text_encoder": text_encoder,
            "autoencoder": autoencoder,
            "process": make_process(**_known(make_process, values["process"])),
            "latent_shape": latent_shape,
        }
        known = (*samplers.SAMPLERS, SAMPLER)
        if values.get("sampler", "dpmpp_2m") not in known:
            raise UserError(
                f"config.task.sampler={values['sampler']!r}: expected one of {', '.join(known)}"
            )
        if "guidance_interval" in values:
            values["guidance_interval"] = guidance.checked_interval(
                values["guidance_interval"], "config.task.guidance_interval"
            )
        return build(cls, values, "config.task")

    def batch_spec(self):
        side, length = self.image_size, self.text_encoder.max_length
        return {
            "image": jax.ShapeDtypeStruct((side, side, 3), jnp.uint8),
            "tokens": jax.ShapeDtypeStruct((length,), jnp.int32),
            "token_mask": jax.ShapeDtypeStruct((length,), jnp.bool_),
        }

    def init(self, rng, batch):
        text_key, unet_key = jax.random.split(rng)
        tokens, mask = batch["tokens"], batch["token_mask"]
        z = jnp.zeros((tokens.shape[0], *self.latent_shape))
        # Of the states the UNet's parameters take the width alone.
        states = jnp.zeros((*tokens.shape, self.text_encoder.hidden_size))
        cond = self._cond(states, mask, mask)
        params = text.init(self.text_encoder, text_key, tokens, mask)
        if self.layout_channels:
            pooled, key = unet_inputs.pooled(states, mask), jax.random.fold_in(rng, 2)
            cond["layout"], layout = self._layout.init_with_output(key, pooled)
            params = {**params, "layout": layout["params"]}
        x, cond = self._inputs(z, cond)
        unet = self.unet.init(unet_key, x, jnp.zeros(tokens.shape[:1]), **cond)
        model, extra = {"unet": unet["params"], **params}, {}
        if self.is_mean_flow:
            key, features = jax.random.fold_in(rng, 1), cond["class_labels"].shape[-1]
            model, extra = average_velocity.init(self.mean_flow, model, features, key)
        return {"model": model}, extra

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {
            "generate": self._generate,
            "sample": self._sample,
            "encode": self._encode,
            "decode": self._decode,
            "error_by_time": self._error_by_time,
            "reconstruct": self._reconstruct,
        }

    def predict_spec(self):
        spec = self.batch_spec()
        drawn = {"seed": SEED, **{k: spec[k] for k in ("tokens", "token_mask")}}
        latent = jax.ShapeDtypeStruct(self.latent_shape, jnp.float32)
        is_kept = jax.ShapeDtypeStruct((*self.latent_shape[:2], 1), jnp.bool_)
        return {
            "generate": drawn,
            "sample": {**drawn, "x_0": latent, "is_kept": is_kept},
            "encode": {"image": spec["image"], "posterior_noise": latent},
            "decode": {"latent": latent},
            "error_by_time": spec,
            "reconstruct": {"image": spec["image"]},
        }

    def components(self, variables, frozen):
        return {
            "unet": (self.unet, variables["params"]["model"]["unet"]),
            "vae": (self.autoencoder, frozen["vae"]["params"]),
        }

    def lora_components(self):
        unet = ("params", "model", "unet"), DIFFUSERS
        return {"unet": unet, **text.lora_components(self.text_encoder)}

    def as_released(self, variables, frozen):
        return released.parts_of(self, variables["params"]["model"]["unet"], frozen)

    def sampling_settings(self):
        names = ("sampler", "num_inference_steps", "guidance_scale", "guidance_rescale")
        return {name: getattr(self, name) for name in (*names, "guidance_interval")}

    def with_settings(self, **changes):
        options = latent_sampling.options_of(self, changes.get("sampler", self.sampler))
        return dataclasses.replace(self, sampler_options=options, **changes)

    def _text(self, params, frozen, tokens, mask) -> dict[str, jax.Array]:
        """Returns what the UNet is conditioned on for these tokens."""
        states, seen = text.encode(self.text_encoder, params, frozen, tokens, mask)
        cond = self._cond(states, mask, seen)
        if self.layout_channels:
            pooled = unet_inputs.pooled(states, mask)
            cond["layout"] = self._layout.apply({"params": params["layout"]}, pooled)
        return cond

    @property
    def _layout(self) -> TextLayout:
        return TextLayout(self.latent_shape[0] // self.patch_size, self.layout_channels)

    def _cond(self, states, mask, seen) -> dict[str, jax.Array]:
        """A state a token, which of them may be attended to and, where it takes one, their sum."""
        cond = {"encoder_hidden_states": states}
        if seen is not None:
            cond["encoder_attention_mask"] = seen
        if self.unet.class_embed_type is not None:
            cond["class_labels"] = unet_inputs.pooled(states, mask)
        return cond

    def _unet(self, params, x_t, t, cond, dropout=None):
        """The UNet's output; `dropout` is the key of its dropout, None in inference."""
        drop = {} if dropout is None else {"deterministic": False, "rngs": {"dropout": dropout}}
        time = self.process.model_time(t)
        x, cond = self._inputs(x_t, cond)
        y = self.unet.apply({"params": params["unet"]}, x, time, **cond, **drop)
        p = self.patch_size
        return einops.rearrange(y, "b h w (p q c) -> b (h p) (w q) c", p=p, q=p)

    def _average_velocity(self, params, dropout=None) -> average_velocity.GuidedFn:
        denoise = functools.partial(self._unet, params, dropout=dropout)
        return average_velocity.guided_fn(denoise, params, self.process.prediction_type)

    def _inputs(self, x_t, cond):
        """Returns latents as the UNet takes them, and what else it is conditioned on."""
        cond = dict(cond)
        layout = cond.pop("layout", None)
        return unet_inputs.patched(x_t, self.patch_size, self.use_coordinates, layout), cond

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        x = pixels.to_signed(batch["image"])
        draw = rngs["latent"] if self.sample_posterior else None
        x_0 = first_stage.encode(self.autoencoder, frozen["vae"], x, draw)
        x_0 = jax.lax.stop_gradient(x_0)
        count = x_0.shape[0]
        eps = jax.random.normal(rngs["noise"], x_0.shape)
        drop = jax.random.bernoulli(rngs["drop_text"], self.text_dropout_prob, (count,))[:, None]
        empty_tokens, empty_mask = text.empty(self.text_encoder, count)
        tokens = jnp.where(drop, empty_tokens, batch["tokens"])
        mask = jnp.where(drop, empty_mask, batch["token_mask"])

        cond = self._text(params, frozen, tokens, mask)
        if self.is_mean_flow:
            network = average_velocity.Network
            fixed = jax.lax.stop_gradient(params)
            teacher, extra_after = average_velocity.with_snapshot(self.mean_flow, params, extra)
            loss, metrics = average_velocity.loss(
                self,
                network(self._average_velocity(params, rngs["dropout"]), cond),
                network(self._average_velocity(fixed), jax.lax.stop_gradient(cond)),
                network(self._average_velocity(teacher), self._text(teacher, frozen, tokens, mask)),
                self._text(teacher, frozen, empty_tokens, empty_mask),
                *(drop[:, 0], x_0, eps, extra["updates"], rngs["t"]),
            )
            return loss, (metrics, extra_after)
        t = self.process.sample_t(rngs["t"], (count,))
        x_t = self.process.add_noise(x_0, eps, t)
        output = self._unet(params, x_t, t, cond, rngs["dropout"])
        target = self.process.target(x_0, eps, t)
        error = ((output - target) ** 2).mean(axis=(1, 2, 3))
        loss = (error * self.process.loss_weight(t)).mean()
        return loss, ({"model/mse": error.mean()}, extra)

    def _error_by_time(self, variables, batch, rngs, frozen):
        """Squared error `[b, bins]` at times spread evenly over the range, one noise a time."""
        x = pixels.to_signed(batch["image"])
        x_0 = first_stage.encode(self.autoencoder, frozen["vae"], x, None)
        params = variables["params"]["model"]
        cond = self._text(params, frozen, batch["tokens"], batch["token_mask"])
        if self.is_mean_flow:
            scale = jnp.ones(x_0.shape[:1])
            cond = average_velocity.condition(params, cond, 0 * scale, scale)

        def at(index):
            share = (index + 0.5) / self.num_time_bins
            t = jnp.full(x_0.shape[:1], share, jnp.float32)
            if not self.process.is_flow:
                t = jnp.round(t * (self.process.num_train_timesteps - 1)).astype(jnp.int32)
            eps = jax.random.normal(jax.random.fold_in(rngs["noise"], index), x_0.shape)
            x_t = self.process.add_noise(x_0, eps, t)
            output = self._unet(params, x_t, t, cond)
            return ((output - self.process.target(x_0, eps, t)) ** 2).mean(axis=(1, 2, 3))

        return {"mse": jax.lax.map(at, jnp.arange(self.num_time_bins)).T}

    def _reconstruct(self, variables, batch, rngs, frozen):
        """Images through the autoencoder and back."""
        x = pixels.to_signed(batch["image"])
        z = first_stage.encode(self.autoencoder, frozen["vae"], x, None)
        y = first_stage.decode(self.autoencoder, frozen["vae"], z)
        return {"image": pixels.from_signed(y)}

    def _encode(self, variables, batch, rngs, frozen):
        """Latents of images: the posterior's mean, or a draw by `posterior_noise`."""
        x = pixels.to_signed(batch["image"])
        noise = batch.get("posterior_noise")
        return {"latent": first_stage.encode(self.autoencoder, frozen["vae"], x, None, noise)}

    def _decode(self, variables, batch, rngs, frozen):
        """Images of latents."""
        x = first_stage.decode(self.autoencoder, frozen["vae"], batch["latent"])
        return first_stage.to_images(x)

    def _sample(self, variables, batch, rngs, frozen):
        """Samples latents.

        `batch` is as of `_generate`, and may hold `x_0` and `is_kept` (`latent_sampling.sample`).
        """
        params = variables["params"]["model"]
        eps, step_keys = latent_sampling.draw(self.latent_shape, batch, rngs)
        denoise = functools.partial(self._unet, params)
        encode_text = functools.partial(self._text, params, frozen)
        if self.is_mean_flow:
            cond = encode_text(batch["tokens"], batch["token_mask"])
            u_fn = self._average_velocity(params)
            z = average_velocity.sample(self, u_fn, cond, eps, step_keys)
            return {"latent": z}
        fn = latent_sampling.guided(self, denoise, encode_text, batch)
        x_0, is_kept = batch.get("x_0"), batch.get("is_kept")
        return {"latent": latent_sampling.sample(self, fn, eps, step_keys, x_0, is_kept)}

    def _generate(self, variables, batch, rngs, frozen):
        """Samples images.

        `batch` holds `tokens` and `token_mask` `[b, n]`, and may hold `negative_tokens` and
        `negative_mask` (the empty prompt otherwise), `seed` uint32 `[b]`, from which all noise of
        an image is then drawn, and `x_T` (noise of the latent's shape or of another size).
        """
        latents = self._sample(variables, batch, rngs, frozen)
        return {**self._decode(variables, latents, rngs, frozen), **latents}


def _known(fn, values: Mapping[str, Any]) -> dict[str, Any]:
    import inspect

    names = set(inspect.signature(fn).parameters)
    if unknown := sorted(set(values) - names):
        raise UserError(
            f"config.task.process: unknown key {unknown[0]!r}; known are {', '.join(sorted(names))}"
        )
    return dict(values)
