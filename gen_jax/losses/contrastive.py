"""Contrastive losses between paired embeddings: every other pair of the batch is a negative.

The batch is the global one: under `jax.jit` with a sharded batch, XLA gathers the embeddings of all
devices, so that one device and many give the same loss.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def siglip(
    first: Float[Array, "n d"],
    second: Float[Array, "n d"],
    log_scale: Float[Array, ""],
    bias: Float[Array, ""],
) -> Float[Array, " n"]:
    """Returns the pairwise sigmoid loss (arXiv:2303.15343) of each row.

    Args:
      first: Embeddings of one side, of any length; they are normalized here.
      second: Embeddings of the other side; row i belongs to row i of `first`.
      log_scale: Logarithm of the scale of cosines; the paper begins with log(10).
      bias: Added to the logits; the paper begins with -10.
    """
    logits = jnp.exp(log_scale) * _cosines(first, second) + bias
    signs = 2.0 * jnp.eye(len(first)) - 1.0
    return -jax.nn.log_sigmoid(signs * logits).sum(-1)


def info_nce(
    first: Float[Array, "n d"], second: Float[Array, "n d"], log_scale: Float[Array, ""]
) -> Float[Array, " n"]:
    """Returns the symmetric cross-entropy of matching pairs (arXiv:2103.00020) of each row.

    Args:
      first: Embeddings of one side, of any length; they are normalized here.
      second: Embeddings of the other side; row i belongs to row i of `first`.
      log_scale: Logarithm of the scale of cosines; CLIP begins with log(1 / 0.07).
    """
    logits = jnp.exp(log_scale) * _cosines(first, second)
    by_row, by_column = (-jnp.diagonal(jax.nn.log_softmax(logits, axis=axis)) for axis in (1, 0))
    return (by_row + by_column) / 2.0


def _cosines(first: Float[Array, "n d"], second: Float[Array, "n d"]) -> Float[Array, "n n"]:
    # Cosines of nearly parallel vectors differ in their last bits: full precision.
    return jnp.matmul(_unit(first), _unit(second).T, precision=jax.lax.Precision.HIGHEST)


def _unit(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-12)
