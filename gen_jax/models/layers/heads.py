"""Multi-head attention of projected tokens, by the form that suits the device."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def attend(
    query: Float[Array, "b n heads d"],
    key: Float[Array, "b m heads d"],
    value: Float[Array, "b m heads d"],
    mask: Bool[Array, "b m"] | None = None,
    *,
    is_causal: bool = False,
    implementation: str | None = None,
) -> Float[Array, "b n heads d"]:
    """softmax(q k^T / sqrt(d)) v for each head; logits and softmax are float32.

    On a CPU, where no implementation is named and nothing is masked, heads are brought next to the
    batch first: XLA's products there want each matrix in one piece, which saves a fifth of a ViT's
    time. Everywhere else it is `jax.nn.dot_product_attention`.

    Args:
      query: what asks.
      key: what is asked.
      value: what is answered.
      mask: True at the keys that may be attended to.
      is_causal: a token attends to itself and to what is before it.
      implementation: passed to `jax.nn.dot_product_attention`.
    """

    def fused(q, k, v):
        wide = None if mask is None else mask[:, None, None, :]
        return jax.nn.dot_product_attention(
            q, k, v, mask=wide, is_causal=is_causal, implementation=implementation
        )

    if mask is not None or is_causal or implementation is not None:
        return fused(query, key, value)
    return jax.lax.platform_dependent(query, key, value, cpu=_by_head, default=fused)


def attention_weights(
    query: Float[Array, "b n heads d"],
    key: Float[Array, "b m heads d"],
    mask: Bool[Array, "b m"] | None = None,
) -> Float[Array, "b heads n m"]:
    """softmax(q k^T / sqrt(d)), which `attend` never holds: to be looked at."""
    logits = jnp.einsum("bnhd,bmhd->bhnm", query, key, preferred_element_type=jnp.float32)
    logits = logits * query.shape[-1] ** -0.5
    if mask is not None:
        logits = jnp.where(mask[:, None, None, :], logits, -jnp.inf)
    return jax.nn.softmax(logits, axis=-1)


def _by_head(query, key, value):
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    logits = jnp.einsum(
        "bhnd,bhmd->bhnm", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32
    )
    # Divided at the end: d numbers a row instead of m.
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    found = jnp.einsum(
        "bhnm,bhmd->bhnd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    return (found / total).astype(query.dtype).transpose(0, 2, 1, 3)
