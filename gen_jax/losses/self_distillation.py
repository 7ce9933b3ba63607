"""Losses of self-supervised encoders: self-distillation and spreading.

Means over the batch are global under `jax.jit`, whatever the number of devices.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def sinkhorn_knopp(
    logits: Float[Array, "n k"], temperature: float | Float[Array, ""], iterations: int = 3
) -> Float[Array, "n k"]:
    """Soft assignments that use every prototype alike (arXiv:2006.09882, section 3).

    Args:
      logits: of each row for each prototype.
      temperature: by which they are divided; lower is harder.
      iterations: of making columns and rows sum up to the same in turn.

    Returns:
      Probabilities: each row sums to 1, each column to about n / k.
    """
    n, k = logits.shape
    # In logarithms, so that sharp temperatures do not overflow.
    log_q = logits / temperature
    for _ in range(iterations):
        log_q = log_q - jax.nn.logsumexp(log_q, axis=0, keepdims=True) + jnp.log(n / k)
        log_q = log_q - jax.nn.logsumexp(log_q, axis=1, keepdims=True)
    return jnp.exp(log_q)


def cross_entropy(
    targets: Float[Array, "*n k"], logits: Float[Array, "*n k"], temperature: float
) -> Float[Array, "*n"]:
    """Of the student's softmax under the teacher's probabilities, in nats."""
    return -(targets * jax.nn.log_softmax(logits / temperature, axis=-1)).sum(-1)


def entropy(probabilities: Float[Array, "*n k"]) -> Float[Array, "*n"]:
    """In nats."""
    return -(probabilities * jnp.log(jnp.maximum(probabilities, 1e-12))).sum(-1)


def koleo(features: Float[Array, "n c"], eps: float = 1e-8) -> Float[Array, ""]:
    """Minus the mean log distance to the nearest neighbour on the sphere (arXiv:1806.03198)."""
    x = _normalised(features)
    cosine = x @ x.T - 2.0 * jnp.eye(len(x))
    nearest = jax.lax.stop_gradient(cosine.argmax(1))
    distance = jnp.sqrt(((x - x[nearest]) ** 2).sum(-1) + eps)
    return -jnp.log(distance + eps).mean()


def spread(features: Float[Array, "n c"]) -> Float[Array, ""]:
    """Deviation of unit vectors over the batch times sqrt(c): 1 where they fill the sphere, 0
    where they have collapsed to a point.
    """
    x = _normalised(features)
    return jnp.sqrt(((x - x.mean(0, keepdims=True)) ** 2).sum(-1).mean())


def _normalised(x):
    return x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-12)
