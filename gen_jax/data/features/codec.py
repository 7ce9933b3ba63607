"""How features are stored: bfloat16, int8 with a scale a channel, or a PCA of them in int8.

A feature is an array [..., channels]. In the int8 forms each image has a scale for each channel,
the largest magnitude there over 127: channels of DINOv2 differ tenfold in spread, tokens of one
channel do not.
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError

_EXPECTED = "expected int8, bf16, or pcaN-int8 with N components, such as pca64-int8"
# A single vector has nobody to share its scales with: int8 would take five bytes a channel.
_MIN_POSITIONS = 4


@dataclasses.dataclass(frozen=True)
class Store:
    """A storage form.

    Attributes:
      name: Name of the form, such as "pca64-int8".
      components: of the PCA, 0 for none.
      quantized: int8, otherwise bfloat16.
    """

    name: str
    components: int
    quantized: bool

    @classmethod
    def parse(cls, name: str) -> "Store":
        """Reads `int8`, `bf16` or `pcaN-int8`.

        Raises:
          UserError: none of them.
        """
        if name in ("int8", "bf16"):
            return cls(name, 0, name == "int8")
        found = re.fullmatch(r"pca([1-9]\d{0,4})-int8", name)
        if not found:
            raise UserError(f"store={name}: {_EXPECTED}")
        return cls(name, int(found[1]), True)


@dataclasses.dataclass(frozen=True)
class PCA:
    """A basis: x is about `mean + coefficients @ components`.

    Attributes:
      mean: [channels].
      components: orthonormal rows [n, channels], the largest variance first.
      explained: share of the variance that they hold, 0 to 1.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: float


def fit_pca(tokens: Float[np.ndarray, "n c"], count: int) -> PCA:
    """Principal components by the covariance's eigenvectors, in float64.

    Args:
      tokens: at least as many as channels, for a basis that means something.
      count: components, at most the channels.

    Raises:
      UserError: more components than channels.
    """
    channels = tokens.shape[1]
    if count > channels:
        raise UserError(f"store=pca{count}-int8: the features have only {channels} channels")
    x = tokens.astype(np.float64)
    mean = x.mean(0)
    x -= mean
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    order = np.argsort(values)[::-1]
    vectors = vectors[:, order[:count]].T
    # An eigenvector's sign is arbitrary: its largest entry is made positive.
    largest = np.abs(vectors).argmax(1)
    vectors *= np.sign(vectors[np.arange(count), largest])[:, None]
    total = max(float(values.sum()), np.finfo(np.float64).tiny)
    return PCA(
        mean=mean.astype(np.float32),
        components=vectors.astype(np.float32),
        explained=float(values[order[:count]].sum()) / total,
    )


def is_quantized(store: Store, shape: tuple[int, ...]) -> bool:
    """Whether a feature of this shape (without batch) is int8 under this store.

    Single vectors stay bfloat16: scales would cost more than int8 saves.
    """
    return store.quantized and int(np.prod(shape[:-1])) >= _MIN_POSITIONS


def has_pca(store: Store, shape: tuple[int, ...]) -> bool:
    """Whether a feature of this shape (without batch) is stored in a basis: where it saves."""
    return bool(store.components) and is_quantized(store, shape) and shape[-1] > store.components


def encode(
    x: Float[Array, "b *positions c"], store: Store, pca: dict[str, Any] | None = None
) -> dict[str, Array]:
    """Features to what is stored of them.

    Args:
      x: features of a batch of images.
      store: the form.
      pca: `{"mean", "components"}` where the form has one.

    Returns:
      "" -> int8 or bfloat16 [b, *positions, channels or components], and "scale" ->
      float32 [b, channels or components] for int8.
    """
    if not is_quantized(store, x.shape[1:]):
        return {"": x.astype(jnp.bfloat16)}
    x = x.astype(jnp.float32)
    if pca is not None:
        centred = x - jnp.expand_dims(pca["mean"], range(x.ndim - 1))
        x = jnp.matmul(centred, pca["components"].T, precision=jax.lax.Precision.HIGHEST)
    axes = tuple(range(1, x.ndim - 1))
    scale = jnp.abs(x).max(axis=axes) / 127.0
    # A channel of zeros has no scale to divide by.
    wide = jnp.expand_dims(jnp.where(scale > 0, scale, 1.0), axes)
    return {"": jnp.round(x / wide).astype(jnp.int8), "scale": scale}


def decode(stored: dict[str, Any], pca: dict[str, Any] | None = None) -> Array:
    """The inverse of `encode`, up to rounding: float32 [b, *positions, c]."""
    return expand(coefficients(stored), pca if "scale" in stored else None)


def coefficients(stored: dict[str, Any]) -> Array:
    """What is stored as float32, in the basis of the PCA where there is one."""
    x = jnp.asarray(stored[""]).astype(jnp.float32)
    if "scale" in stored:
        axes = tuple(range(1, x.ndim - 1))
        x = x * jnp.expand_dims(stored["scale"], axes)
    return x


def expand(x: Float[Array, "b *positions n"], pca: dict[str, Any] | None) -> Array:
    """Coefficients to channels."""
    if pca is None:
        return x
    y = jnp.matmul(x, pca["components"], precision=jax.lax.Precision.HIGHEST)
    return y + jnp.expand_dims(jnp.asarray(pca["mean"]), range(x.ndim - 1))


def cosine(x: Float[Array, "b *positions c"], y: Float[Array, "b *positions c"]) -> Array:
    """Cosine of the angle between vectors, [b, *positions]; 1 where both are zero."""
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    dot = (x * y).sum(-1)
    norms = jnp.linalg.norm(x, axis=-1) * jnp.linalg.norm(y, axis=-1)
    both_zero = (jnp.abs(x).max(-1) == 0) & (jnp.abs(y).max(-1) == 0)
    return jnp.where(both_zero, 1.0, dot / jnp.maximum(norms, jnp.finfo(jnp.float32).tiny))
