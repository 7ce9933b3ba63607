"""Losses of label maps: cross-entropy over labeled pixels, and the soft Dice loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(
    logits: Float[Array, "b h w k"], target: Int[Array, "b h w"], valid: Bool[Array, "b h w"]
) -> Float[Array, ""]:
    """Returns the mean cross-entropy over valid pixels, in nats; 0 if there is none."""
    rows = jax.nn.log_softmax(logits)
    one_hot = jax.nn.one_hot(target, logits.shape[-1])
    losses = -(rows * one_hot).sum(-1)
    return (losses * valid).sum() / jnp.maximum(valid.sum(), 1)


def soft_dice(
    logits: Float[Array, "b h w k"], target: Int[Array, "b h w"], valid: Bool[Array, "b h w"]
) -> Float[Array, ""]:
    """Returns 1 - the soft Dice coefficient of each class, averaged (arXiv:1606.04797).

    Sums are over the batch, so that an image without a class is no special case. A class that
    no valid pixel of the batch has counts as predicted right if it has no probability.
    """
    keep = valid[..., None]
    p = jax.nn.softmax(logits) * keep
    one_hot = jax.nn.one_hot(target, logits.shape[-1]) * keep
    overlap, total = (p * one_hot).sum((0, 1, 2)), (p + one_hot).sum((0, 1, 2))
    return 1.0 - ((2.0 * overlap + 1.0) / (total + 1.0)).mean()
