"""Sampling of latents from noise, or from the latents of an image.

Image to image is SDEdit (arXiv:2108.01073): the latents are noised to the level of a step, and
denoised from there. In inpainting the known region is put back before each step.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gen_jax.common.errors import UserError
from gen_jax.diffusion import guidance, samplers, scheduler_config
from gen_jax.diffusion.guidance import DenoiseFn
from gen_jax.diffusion.schedules import make_process
from gen_jax.tasks import text

Conditions = Mapping[str, jax.Array]
"""What the UNet is conditioned on."""


def options_of(task: Any, sampler: str) -> samplers.SamplerOptions:
    """Returns a task's options under a sampler, as diffusers' schedulers take them over.

    They are those of a scheduler config, in which each class reads the keys that it knows. What the
    file of a pipeline leaves out has the new class's default, not that of the class before.

    Raises:
      UserError: The scheduler class of the sampler cannot do what the config says.
    """
    known = task.sampler_options
    if sampler == task.sampler or task.process.is_flow:
        return known
    config = _unchanged_config(task)
    if not config:
        if known == samplers.DEFAULTS:
            return known
        config = scheduler_config.to_diffusers(task.process, task.sampler, known)
        config = {key: value for key, value in config.items() if not key.startswith("_")}
        # Not every class has these keys, and latents are not clipped unless an option says so.
        config = {"clip_sample": False, "skip_prk_steps": known.skip_prk_steps, **config}
    other = scheduler_config.to_diffusers(task.process, sampler, samplers.DEFAULTS)
    config = {**config, "_class_name": other["_class_name"]}
    read = scheduler_config.from_diffusers(config, f"sampler={sampler!r}")
    is_rescaled = read.process["rescale_zero_terminal_snr"]
    if is_rescaled != task.process.rescale_zero_terminal_snr:
        raise UserError(
            f"sampler={sampler!r}: reads rescale_betas_zero_snr={is_rescaled} in the pipeline's "
            f"scheduler config, which {task.sampler!r} does not; change the file"
        )
    return samplers.SamplerOptions(**read.options)


def scheduler_of(task: Any) -> dict[str, Any]:
    """Returns the scheduler config of a task: as its pipeline has it, or written from its settings.

    Raises:
      UserError: Diffusers has no such scheduler.
    """
    config = _unchanged_config(task)
    return config or scheduler_config.to_diffusers(task.process, task.sampler, task.sampler_options)


def _unchanged_config(task: Any) -> dict[str, Any]:
    """Returns the scheduler config that a task was read from; empty if it has other settings."""
    # The lists of the file are tuples in a task.
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in task.scheduler_config.items()}
    if not config:
        return {}
    read = scheduler_config.from_diffusers(config, "config.task.scheduler_config")
    options = samplers.SamplerOptions(**read.options)
    have = (task.sampler, task.sampler_options, task.process)
    return config if (read.sampler, options, make_process(**read.process)) == have else {}


def num_skipped(num_steps: int, strength: float | int) -> int:
    """Returns how many steps an image skips at a strength, as diffusers counts them."""
    return num_steps - min(int(num_steps * strength), num_steps)


def draw(
    shape: tuple[int, int, int], batch: Mapping[str, jax.Array], rngs: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Returns the initial noise [b, h, w, c] and the key of the noise of the steps.

    Args:
      shape: Height, width and channels of a latent.
      batch: "tokens", perhaps "seed" uint32 [b], from which all noise of an image is then drawn,
        and perhaps "x_T", the noise itself.
      rngs: "noise" is the key where there are no seeds.
    """
    if "seed" in batch:
        # One key per image: an image does not depend on its batch.
        keys = jax.vmap(jax.random.key)(batch["seed"].astype(jnp.uint32))
        eps = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
    else:
        eps = jax.random.normal(rngs["noise"], (batch["tokens"].shape[0], *shape))
        step_keys = jax.random.fold_in(rngs["noise"], 1)
    return batch.get("x_T", eps), step_keys


def guided(
    task: Any,
    denoise: Callable[..., jax.Array],
    encode_text: Callable[[jax.Array, jax.Array], Conditions],
    batch: Mapping[str, jax.Array],
) -> DenoiseFn:
    """Returns the denoiser under the task's guidance.

    Args:
      task: The latent diffusion task.
      denoise: (x_t, t, conditions) -> output of the UNet.
      encode_text: (tokens, mask) -> conditions.
      batch: "tokens" and "token_mask" [b, n]; perhaps "negative_tokens" and "negative_mask", the
        empty prompt otherwise.
    """
    tokens, mask = batch["tokens"], batch["token_mask"]
    cond = encode_text(tokens, mask)
    if task.guidance_scale == 1.0:
        return functools.partial(denoise, cond=cond)
    empty = text.empty(task.text_encoder, tokens.shape[0])
    negative = encode_text(
        batch.get("negative_tokens", empty[0]), batch.get("negative_mask", empty[1])
    )
    scale = guidance.within(task.guidance_scale, *task.guidance_interval, task.process)
    return guidance.guided_batched(denoise, cond, negative, scale, task.guidance_rescale)


def sample(
    task: Any,
    denoise: DenoiseFn,
    eps: jax.Array,
    step_keys: jax.Array,
    x_0: jax.Array | None = None,
    is_kept: jax.Array | None = None,
) -> jax.Array:
    """Returns latents.

    Args:
      task: The latent diffusion task. Of its steps, `strength` is the share that an image takes.
      denoise: The denoiser, see `guided`.
      eps: Initial noise [b, h, w, c].
      step_keys: Key of the noise of the steps, one for all or one per image.
      x_0: Latents of images [b, h, w, c]; None to start from noise. At a strength of 1 sampling
        starts from noise, too, and at 0 they are the result.
      is_kept: Bool [b, h, w, 1], where the result has the latents of the image; None for nowhere.
    """
    at = (task.process, task.num_inference_steps, task.sampler)
    skipped = 0 if x_0 is None else num_skipped(task.num_inference_steps, task.strength)
    if skipped == task.num_inference_steps:
        return x_0
    if skipped:
        x_T = samplers.noised(x_0, eps, *at, skipped, task.sampler_options)
    else:
        x_T = samplers.noise_scale(*at, task.sampler_options) * eps
    return samplers.sample(
        denoise,
        x_T,
        *at,
        rng=step_keys,
        options=task.sampler_options,
        first_step=skipped,
        known=None if is_kept is None else samplers.Known(is_kept, x_0, eps),
    )
