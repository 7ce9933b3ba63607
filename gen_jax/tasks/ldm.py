"""The latent diffusion stage: a text-conditioned UNet behind a frozen autoencoder."""

import dataclasses
import functools
import math
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
from gen_jax.diffusion.schedules import Process, make_process
from gen_jax.models.text_layout import TextLayout
from gen_jax.models.unet_2d_condition import UNet2DConditionModel
from gen_jax.tasks import first_stage, text
from gen_jax.tasks.base import SEED, Task


@dataclasses.dataclass(frozen=True)
class LDMTask(Task):
    """Trains a denoiser of latents (arXiv 2112.10752) given tokens.

    Attributes:
      unet: the denoiser.
      text_encoder: tokens to states; trained along, or a frozen tower (`tasks.text`).
      autoencoder: the frozen first stage.
      process: the forward process and what the UNet predicts.
      image_size: side of the square images, in pixels.
      latent_shape: height, width and channels of a latent.
      sample_posterior: learn draws from the autoencoder's posterior; False learns its mean, which
        leaves out noise that nobody can predict, where the decoder has learnt to do without.
      text_dropout_prob: probability that a caption is emptied, for guidance (arXiv 2207.12598).
      num_time_bins: parts of the time range that the error is reported for.
      sampler: default of `generate`, see `diffusion.samplers`.
      num_inference_steps: its steps.
      guidance_scale: its guidance, 1 for none.
      guidance_rescale: share of the contrast put back (arXiv 2305.08891).
      guidance_interval: part of the time range that is guided, from 0 (no noise) to 1
        (arXiv 2404.07724): at little noise guidance only frays what stands already.
      use_coordinates: give the UNet each position's place as two more channels. Convolutions find
        out late where they are (arXiv 1807.03247), and until then "top left" means nothing.
      patch_size: side of the squares of latents that the UNet sees as one position, as in
        arXiv 2212.09748: 2 leaves a quarter of the positions to compute.
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
    num_inference_steps: int = 20
    guidance_scale: float = 3.0
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    use_coordinates: bool = False
    patch_size: int = 1
    layout_channels: int = 0

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
    }
    rng_streams = ("latent", "t", "noise", "drop_text", "dropout")
    pipeline = "text_to_image"

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "LDMTask":
        """Builds it from `config.task` and the tasks of the trained autoencoder (`vae`)
        and, where the text encoder is a frozen one, of its tower (`text`).

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
        extra = 2 * bool(values.get("use_coordinates", False)) + values.get("layout_channels", 0)
        patch = values.get("patch_size", 1)
        if not isinstance(patch, int) or patch < 1 or latent_shape[0] % patch:
            raise UserError(
                f"config.task.patch_size={patch!r} must divide the latent's side {latent_shape[0]}"
            )
        channels = latent_shape[2] * patch**2
        unet = {
            "sample_size": latent_shape[0] // patch,
            "in_channels": channels + extra,
            "out_channels": channels,
            "cross_attention_dim": text_encoder.hidden_size,
            **values["unet"],
        }
        if unet.get("class_embed_type") is not None:
            unet.setdefault("projection_class_embeddings_input_dim", text_encoder.hidden_size)
        if unet["cross_attention_dim"] != text_encoder.hidden_size:
            raise UserError(
                f"config.task.unet.cross_attention_dim={unet['cross_attention_dim']} must be "
                f"the text encoder's hidden_size={text_encoder.hidden_size}"
            )
        values |= {
            "unet": build(UNet2DConditionModel, unet, "config.task.unet"),
            "text_encoder": text_encoder,
            "autoencoder": autoencoder,
            "process": make_process(**_known(make_process, values["process"])),
            "latent_shape": latent_shape,
        }
        if values.get("sampler", "dpmpp_2m") not in samplers.SAMPLERS:
            raise UserError(
                f"config.task.sampler={values['sampler']!r}: expected one of "
                f"{', '.join(samplers.SAMPLERS)}"
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
        layout = None
        if self.layout_channels:
            layout, layout_params = self._layout.init_with_output(
                jax.random.fold_in(rng, 2), _pooled(states, mask)
            )
            params = {**params, "layout": layout_params["params"]}
        x = self._seen(z, layout)
        unet = self.unet.init(unet_key, x, jnp.zeros(tokens.shape[:1]), **cond)
        return {"model": {"unet": unet["params"], **params}}, {}

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {
            "generate": self._generate,
            "error_by_time": self._error_by_time,
            "reconstruct": self._reconstruct,
        }

    def predict_spec(self):
        spec = self.batch_spec()
        text_spec = {k: spec[k] for k in ("tokens", "token_mask")}
        return {
            "generate": {"seed": SEED, **text_spec},
            "error_by_time": spec,
            "reconstruct": {"image": spec["image"]},
        }

    def components(self, variables, frozen):
        return {
            "unet": (self.unet, variables["params"]["model"]["unet"]),
            "vae": (self.autoencoder, frozen["vae"]["params"]),
        }

    def sampling_settings(self):
        names = ("sampler", "num_inference_steps", "guidance_scale", "guidance_rescale")
        return {name: getattr(self, name) for name in (*names, "guidance_interval")}

    def _text(self, params, frozen, tokens, mask) -> dict[str, jax.Array]:
        """What the UNet is told of these tokens."""
        states, seen = text.encode(self.text_encoder, params, frozen, tokens, mask)
        cond = self._cond(states, mask, seen)
        if self.layout_channels:
            cond["layout"] = self._layout.apply({"params": params["layout"]}, _pooled(states, mask))
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
            cond["class_labels"] = _pooled(states, mask)
        return cond

    def _unet(self, params, x_t, t, cond, dropout=None):
        """The UNet's output; `dropout` is the key of its dropout, None in inference."""
        drop = {} if dropout is None else {"deterministic": False, "rngs": {"dropout": dropout}}
        time = self.process.model_time(t)
        x = self._seen(x_t, cond.get("layout"))
        cond = {name: value for name, value in cond.items() if name != "layout"}
        y = self.unet.apply({"params": params["unet"]}, x, time, **cond, **drop)
        p = self.patch_size
        return einops.rearrange(y, "b h w (p q c) -> b (h p) (w q) c", p=p, q=p)

    def _seen(self, x_t, layout=None):
        """Returns latents as the UNet takes them: patches, each with its place and layout."""
        p = self.patch_size
        x = einops.rearrange(x_t, "b (h p) (w q) c -> b h w (p q c)", p=p, q=p)
        if layout is not None:
            x = jnp.concatenate([x, layout], axis=-1)
        if not self.use_coordinates:
            return x
        # Of unit variance, as the latents are.
        rows, columns = (math.sqrt(3) * jnp.linspace(-1, 1, side) for side in x.shape[1:3])
        grid = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
        return jnp.concatenate([x, jnp.broadcast_to(grid, (len(x), *grid.shape))], axis=-1)

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        x = pixels.to_signed(batch["image"])
        draw = rngs["latent"] if self.sample_posterior else None
        x_0 = first_stage.encode(self.autoencoder, frozen["vae"], x, draw)
        x_0 = jax.lax.stop_gradient(x_0)
        count = x_0.shape[0]
        t = self.process.sample_t(rngs["t"], (count,))
        eps = jax.random.normal(rngs["noise"], x_0.shape)
        drop = jax.random.bernoulli(rngs["drop_text"], self.text_dropout_prob, (count,))[:, None]
        empty_tokens, empty_mask = text.empty(self.text_encoder, count)
        tokens = jnp.where(drop, empty_tokens, batch["tokens"])
        mask = jnp.where(drop, empty_mask, batch["token_mask"])

        x_t = self.process.add_noise(x_0, eps, t)
        cond = self._text(params, frozen, tokens, mask)
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

    def _generate(self, variables, batch, rngs, frozen):
        """Samples images.

        `batch` holds `tokens` and `token_mask` `[b, n]`, and may hold `negative_tokens` and
        `negative_mask` (the empty prompt otherwise), `seed` uint32 `[b]`, from which all noise of
        an image is then drawn, and `x_T` (noise of the latent's shape).
        """
        params = variables["params"]["model"]
        tokens, mask = batch["tokens"], batch["token_mask"]
        count = tokens.shape[0]
        if "seed" in batch:
            # One key per image: an image does not depend on its batch.
            keys = jax.vmap(jax.random.key)(batch["seed"].astype(jnp.uint32))
            x_T = jax.vmap(lambda key: jax.random.normal(key, self.latent_shape))(keys)
            step_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        else:
            x_T = jax.random.normal(rngs["noise"], (count, *self.latent_shape))
            step_keys = jax.random.fold_in(rngs["noise"], 1)
        x_T = batch.get("x_T", x_T)

        denoise = functools.partial(self._unet, params)
        cond = self._text(params, frozen, tokens, mask)
        if self.guidance_scale == 1.0:
            fn = functools.partial(denoise, cond=cond)
        else:
            empty = text.empty(self.text_encoder, count)
            negative = self._text(
                params,
                frozen,
                batch.get("negative_tokens", empty[0]),
                batch.get("negative_mask", empty[1]),
            )
            scale = guidance.within(self.guidance_scale, *self.guidance_interval, self.process)
            fn = guidance.guided_batched(denoise, cond, negative, scale, self.guidance_rescale)
        z = samplers.sample(
            fn,
            x_T,
            self.process,
            self.num_inference_steps,
            self.sampler,
            rng=step_keys,
        )
        image = first_stage.decode(self.autoencoder, frozen["vae"], z)
        return {**first_stage.to_images(image), "latent": z}


def _pooled(states, mask):
    """Returns the sum of token states over the root of their number: of one size at any length."""
    total = (states * mask[:, :, None]).sum(axis=1)
    return total / jnp.sqrt(jnp.maximum(mask.sum(axis=1, keepdims=True), 1))


def _known(fn, values: Mapping[str, Any]) -> dict[str, Any]:
    import inspect

    names = set(inspect.signature(fn).parameters)
    if unknown := sorted(set(values) - names):
        raise UserError(
            f"config.task.process: unknown key {unknown[0]!r}; known are {', '.join(sorted(names))}"
        )
    return dict(values)
