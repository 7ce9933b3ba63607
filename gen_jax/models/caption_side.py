"""Latents and embeddings of captions beside those of images."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gen_jax.models.joint_autoencoder import unit_mean_square
from gen_jax.models.layers.conditioning import masked_mean

_SHARPNESS = 16.0  # of the smooth maximum


class CaptionSide(nn.Module):
    """Latents and embeddings of captions, and the embeddings of images that they are matched with.

    Attributes:
      latent_dim: Numbers of a caption's latent.
      embedding_dim: Numbers of an embedding of the contrastive loss.
      context_tokens: Vectors of the context that a caption's latent becomes, a divisor of its size.
      context_dim: Width of these vectors, as of the autoencoder's context.
    """

    latent_dim: int = 256
    embedding_dim: int = 128
    context_tokens: int = 4
    context_dim: int = 256

    def setup(self):
        self.to_latent = nn.Dense(self.latent_dim)
        self.image_embedding = nn.Dense(self.embedding_dim)
        self.text_embedding = nn.Dense(self.embedding_dim)
        self.log_scale = self.param("log_scale", nn.initializers.constant(jnp.log(10.0)), ())
        self.logit_bias = self.param("logit_bias", nn.initializers.constant(-10.0), ())
        self.context_in = nn.Dense(self.context_dim)
        shape = (2, self.context_tokens, self.context_dim)
        self.context_position = self.param("context_position", nn.initializers.normal(0.3), shape)

    def latent(
        self, states: Float[Array, "b n t"], mask: Bool[Array, "b n"]
    ) -> Float[Array, "b c"]:
        """Returns latents with a mean square of 1."""
        both = jnp.concatenate([masked_mean(states, mask), smooth_max(states, mask)], axis=-1)
        return unit_mean_square(self.to_latent(both))

    def embeddings(self, pooled: Float[Array, "b d"], text: Float[Array, "b t"]):
        """Returns embeddings of images and of captions, the logarithm of the scale, and a bias."""
        image, caption = self.image_embedding(pooled), self.text_embedding(text)
        return image, caption, self.log_scale, self.logit_bias

    def context(
        self, latent: Float[Array, "b c"], is_given: Bool[Array, " b"]
    ) -> Float[Array, "b m d"]:
        """Returns the vectors that the caption decoder attends to beside those of the image."""
        given = is_given[:, None, None]
        parts = self.context_in(latent.reshape(len(latent), self.context_tokens, -1))
        without, with_latent = self.context_position
        return jnp.where(given, parts + with_latent[None], without[None])

    def __call__(self, states, mask, pooled):
        """Calls all methods, so that every parameter is made."""
        latent = self.latent(states, mask)
        given = jnp.ones((len(latent),), bool)
        return self.embeddings(pooled, masked_mean(states, mask)), self.context(latent, given)


def smooth_max(states: Float[Array, "b n d"], mask: Bool[Array, "b n"]) -> Float[Array, "b d"]:
    """Returns nearly the largest value of each channel over the tokens that count.

    The gradient of the maximum itself jumps where two tokens are nearly equal, so that rounding
    alone would lead two runs apart.
    """
    logits = jnp.where(mask[..., None], _SHARPNESS * states, -jnp.inf)
    return (jax.nn.softmax(logits, axis=1) * states).sum(1)
