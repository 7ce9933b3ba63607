"""Clusters of real images' features, found along the way: labels where the data has none."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gen_jax.losses.distances import squared

_KEPT = 0.95  # of the running sums, a step
_DEAD = 0.1  # of an even share: with less a cluster begins anew at some image
_NORMAL = jax.scipy.stats.norm.cdf


def empty(count: int, width: int) -> dict[str, Array]:
    """The collections before the first step."""
    return {
        "cluster_means": jnp.zeros((count, width)),
        "cluster_sizes": jnp.zeros((count,)),
    }


def started(extra: Mapping[str, Any], rows: Float[Array, "m d"]) -> dict[str, Array]:
    """With means where there are none yet: images of the first batch, each the farthest from those
    before it (Gonzalez 1985).
    """
    count = len(extra["cluster_sizes"])

    def farther(i, state):
        first, far = state
        first = first.at[i].set(rows[far.argmax()])
        return first, jnp.minimum(far, squared(rows, first[i][None])[:, 0])

    far = squared(rows, rows.mean(0, keepdims=True))[:, 0]
    # The first is the one in the middle; what is near to it comes last.
    first = jnp.zeros((count, rows.shape[-1])).at[0].set(rows[far.argmin()])
    far = squared(rows, first[:1])[:, 0]
    first, _ = jax.lax.fori_loop(1, count, farther, (first, far))
    fresh = extra["cluster_sizes"].sum() == 0
    return {
        "cluster_means": jnp.where(fresh, first, extra["cluster_means"]),
        "cluster_sizes": jnp.where(fresh, 1.0 / count, extra["cluster_sizes"]),
    }


def labels_of(extra: Mapping[str, Any], rows: Float[Array, "m d"]) -> Int[Array, " m"]:
    """The nearest mean of each row."""
    return squared(rows, extra["cluster_means"]).argmin(-1)


def moved(
    extra: Mapping[str, Any], rows: Float[Array, "m d"], labels: Int[Array, " m"]
) -> dict[str, Array]:
    """Means and sizes after a batch: running averages, as of a codebook (arXiv 1711.00937)."""
    count = len(extra["cluster_sizes"])
    one_hot = jax.nn.one_hot(labels, count)
    sizes = _KEPT * extra["cluster_sizes"] + (1.0 - _KEPT) * one_hot.mean(0)
    sums = (_KEPT * extra["cluster_sizes"])[:, None] * extra["cluster_means"]
    sums += (1.0 - _KEPT) / len(rows) * one_hot.T @ rows
    means = sums / jnp.maximum(sizes, 1e-9)[:, None]
    dead = sizes < _DEAD / count
    # The farthest images have no cluster of their own yet.
    far = jnp.take_along_axis(squared(rows, means), labels[:, None], 1)[:, 0]
    lonely = rows[jnp.argsort(-far)[jnp.arange(count) % len(rows)]]
    sizes = jnp.where(dead, 1.0 / count, sizes)
    return {
        "cluster_means": jax.lax.stop_gradient(jnp.where(dead[:, None], lonely, means)),
        "cluster_sizes": jax.lax.stop_gradient(sizes / sizes.sum()),
    }


def drawn(sizes: Float[Array, " k"], z: Float[Array, "b z"]) -> Int[Array, " b"]:
    """A cluster for each standard normal latent, as often as it is among real images.

    The latent's first number decides, so that a picture stays its latent alone.
    """
    ends = jnp.cumsum(sizes) / sizes.sum()
    return jnp.minimum(jnp.searchsorted(ends, _NORMAL(z[:, 0])), len(sizes) - 1)
