"""A latent diffusion stage as a pipeline of Stable Diffusion, if it has that shape."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.encoders.clip import CLIPText
from gen_jax.models.autoencoder_kl import AutoencoderKL
from gen_jax.tasks import latent_sampling
from gen_jax.tasks.base import Components
from gen_jax.tasks.text import FrozenText


@dataclasses.dataclass(frozen=True)
class Released:
    """The parts of a StableDiffusionPipeline.

    Attributes:
      components: "unet", "vae" and "text_encoder" -> module and parameters.
      scheduler: Content of scheduler_config.json.
      max_length: Tokens per prompt.
    """

    components: Components
    scheduler: Mapping[str, Any]
    max_length: int


def parts_of(task: Any, unet_params: Mapping[str, Any], frozen: Mapping[str, Any]) -> Released:
    """Returns the parts of a pipeline.

    Args:
      task: A `tasks.ldm.LDMTask`.
      unet_params: Parameters of its UNet.
      frozen: Parameters of the first stage as "vae" and of the text encoder as "text".

    Raises:
      UserError: diffusers has no such pipeline; the message is the reason.
    """
    for key, value, usual, what in (
        ("use_coordinates", task.use_coordinates, False, "coordinates"),
        ("layout_channels", task.layout_channels, 0, "a layout of the text"),
        ("patch_size", task.patch_size, 1, "patches"),
    ):
        if value != usual:
            raise UserError(f"its UNet reads {what} (config.task.{key}={value})")
    if task.unet.class_embed_type is not None:
        raise UserError(
            f"its UNet has class_embed_type={task.unet.class_embed_type!r}, for which the pipeline "
            "has no input"
        )
    if not isinstance(task.autoencoder, AutoencoderKL):
        kind = type(task.autoencoder).__name__
        raise UserError(f"its autoencoder is {kind}, not AutoencoderKL")
    if task.process.is_flow:
        raise UserError("its process is a rectified flow, for which the pipeline has no scheduler")
    return Released(
        components={
            "unet": (task.unet, unet_params),
            "vae": _autoencoder(task.autoencoder, frozen["vae"]),
            "text_encoder": _text_encoder(task.text_encoder, frozen),
        },
        scheduler=latent_sampling.scheduler_of(task),
        max_length=task.text_encoder.max_length,
    )


def _text_encoder(encoder: Any, frozen: Mapping[str, Any]) -> tuple[CLIPText, dict[str, Any]]:
    """Returns CLIP's text encoder without what the pipeline does not read."""
    if not isinstance(encoder, FrozenText) or not isinstance(encoder.tower, CLIPText):
        kind = type(getattr(encoder, "tower", encoder)).__name__
        raise UserError(f"its text encoder is {kind}, not a frozen CLIP text encoder")
    params = dict(frozen["text"]["params"])
    params.pop("text_projection", None)
    # The pipeline reads the last states: of the states before, the last block is left out.
    blocks = encoder.tower.num_hidden_layers + encoder.layer + 1
    kept = {k: v for k, v in params.items() if _block_number(k) < blocks}
    return encoder.tower.clone(num_hidden_layers=blocks, projection_dim=None), kept


def _block_number(name: str) -> int:
    match = re.fullmatch(r"blocks_(\d+)", name)
    return int(match[1]) if match else -1


def _autoencoder(
    module: AutoencoderKL, frozen: Mapping[str, Any]
) -> tuple[AutoencoderKL, Mapping[str, Any]]:
    """Returns an autoencoder whose latents have unit variance by `scaling_factor` alone.

    A run's autoencoder has a mean and a standard deviation per channel. The convolutions of one
    pixel around the latent take them up.
    """
    params = frozen["params"]
    mean, std = (np.asarray(frozen[key], np.float32) for key in ("latent_mean", "latent_std"))
    factor = module.scaling_factor
    if factor and not mean.any() and np.allclose(std * factor, 1, rtol=1e-5):
        return module, params
    if not mean.any() and np.allclose(std, std[0], rtol=1e-6):
        return module.clone(scaling_factor=float(1 / std[0])), params
    if not (module.use_quant_conv and module.use_post_quant_conv):
        raise UserError(
            "its autoencoder has a mean and a standard deviation per channel of the latent, and "
            "no quant_conv and post_quant_conv that could take them up"
        )
    before, after = params["quant_conv"], params["post_quant_conv"]
    # Of the log variances: log(variance / std**2) = log(variance) - 2 log(std).
    scale = np.concatenate([1 / std, np.ones_like(std)])
    shift = np.concatenate([-mean / std, -2 * np.log(std)])
    kernel = np.asarray(after["kernel"])
    folded = {
        "quant_conv": {
            "kernel": np.asarray(before["kernel"]) * scale[None, None, None],
            "bias": np.asarray(before["bias"]) * scale + shift,
        },
        "post_quant_conv": {
            "kernel": kernel * std[None, None, :, None],
            "bias": np.asarray(after["bias"]) + mean @ kernel[0, 0],
        },
    }
    return module.clone(scaling_factor=1.0, shift_factor=None), {**params, **folded}
