"""A latent diffusion task whose networks are formulas, so that its results are known."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from configs import ldm
from gen_jax.models.unet_2d_condition import UNet2DConditionModel
from gen_jax.tasks import build_task
from gen_jax.tasks.ldm import LDMTask

LATENT = (4, 4, 4)
X_0 = 0.5  # every latent of every image


class Latents(nn.Module):
    """Gives every image the latent `X_0`, and shows the first three channels of a latent."""

    def encode(self, x):
        shape = (len(x), *LATENT)
        return jnp.full(shape, X_0), jnp.full(shape, -60.0)

    def decode(self, z):
        return jnp.tanh(z[..., :3] / 4)


class Words(nn.Module):
    """States that are the tokens themselves."""

    max_length: int = 8
    hidden_size: int = 1

    def __call__(self, tokens, mask):
        return tokens[..., None].astype(jnp.float32)


class Blend(UNet2DConditionModel):
    """Depends on the latents, the time and the tokens of the text, by a formula."""

    def apply(self, variables, x, time, encoder_hidden_states, encoder_attention_mask):
        words = jnp.where(encoder_attention_mask, encoder_hidden_states[..., 0], 0).sum(1)
        return jnp.sin(0.1 * words[:, None, None, None] + x) + 1e-3 * time[:, None, None, None]


class Exact(UNet2DConditionModel):
    """Answers with the right target for `X_0`, plus an offset.

    Attributes:
      schedule: "flow" or "scaled_linear".
      prediction_type: What the target is.
      offset: Error of the answer.
    """

    schedule: str = "flow"
    prediction_type: str = "flow"
    offset: float = 0.0

    def apply(self, variables, x, time, **cond):
        alpha, sigma = (v[:, None, None, None] for v in coefficients(self.schedule, time))
        eps = (x - alpha * X_0) / sigma
        targets = {
            "epsilon": eps,
            "sample": jnp.full_like(x, X_0),
            "v_prediction": alpha * eps - sigma * X_0,
            "flow": eps - X_0,
        }
        return targets[self.prediction_type] + self.offset


def coefficients(schedule: str, time):
    """Signal and noise at the UNet's times `[b]`, 0 to 1,000, by the papers' formulas."""
    if schedule == "flow":
        return 1 - time / 1000, time / 1000
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = jnp.asarray(np.sqrt(np.cumprod(1 - betas)), jnp.float32)[time.astype(int)]
    return signal, jnp.sqrt(1 - signal**2)


@functools.cache
def plain(**changes) -> LDMTask:
    """Builds the debug task with the networks above and changes of its fields."""
    config = ldm.get_config("debug,data=photos,vae=train")
    vae = build_task(config.requires.vae.task.to_dict())
    values = config.task.to_dict()
    task = build_task({**values, "use_coordinates": False}, {"vae": vae})
    changes = {"unet": Exact(), "autoencoder": Latents(), "text_encoder": Words(), **changes}
    return dataclasses.replace(task, **changes)


def batch(count: int) -> dict:
    """Images, and captions of eight tokens with the last two padding."""
    tokens = 10 + np.arange(8 * count, dtype=np.int32).reshape(count, 8) % 200
    return {
        "image": jnp.zeros((count, 16, 16, 3), jnp.uint8),
        "tokens": jnp.asarray(tokens),
        "token_mask": jnp.broadcast_to(jnp.arange(8)[None] < 6, (count, 8)),
    }


PARAMS = {"unet": {}, "text_encoder": {}}
FROZEN = {"vae": {"params": {}, "latent_mean": jnp.zeros(4), "latent_std": jnp.ones(4)}}


def keys(task: LDMTask, seed: int = 0) -> dict[str, jax.Array]:
    """A key per stream."""
    return {name: jax.random.key(100 * seed + i) for i, name in enumerate(task.rng_streams)}
