"""What a quantizer is, and what both kinds need."""

from collections.abc import Mapping
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Codebook = Mapping[str, Any]
"""What a quantizer keeps in the task's `extra`; empty for one that learns nothing."""


@flax.struct.dataclass
class Quantized:
    """What became of latents.

    Attributes:
      latent: quantized latents `[b, h, w, z]`; gradients pass to the encoder.
      codes: int32 `[b, h, w, d]`, one index a level of depth.
      commitment: mean squared distance of latents to their codes, the codes held fixed.
    """

    latent: Any
    codes: Any
    commitment: Any


class Quantizer(Protocol):
    """A frozen dataclass of numbers.

    Attributes:
      dim: channels of the latents.
      depth: codes at one place.
      num_codes: values that a code may have.
    """

    dim: int
    depth: int
    num_codes: int

    def init(self, rng: jax.Array) -> Codebook:
        """A codebook to begin with."""

    def prepare(self, z: jax.Array, book: Codebook, rng: jax.Array) -> Codebook:
        """The codebook before the first latents are quantized: started from them."""

    def __call__(self, z: jax.Array, book: Codebook) -> Quantized:
        """Latents to their codes."""

    def update(
        self, z: jax.Array, found: Quantized, book: Codebook, rng: jax.Array
    ) -> tuple[Codebook, Mapping[str, jax.Array]]:
        """The codebook after a step, and metrics."""

    def lookup(self, codes: jax.Array, book: Codebook) -> jax.Array:
        """Codes to latents."""


def usage_metrics(counts: Float[Array, " k"]) -> dict[str, jax.Array]:
    """How evenly codes are used.

    Returns:
      `perplexity`, exp of the entropy (K when all are used alike), and `usage`, the share of codes
      that occur at all.
    """
    p = counts / jnp.maximum(counts.sum(), 1e-12)
    entropy = -(p * jnp.log(jnp.maximum(p, 1e-12))).sum()
    return {"perplexity": jnp.exp(entropy), "usage": (counts > 0).astype(jnp.float32).mean()}


def counts_of(codes: Int[Array, "n"], num_codes: int) -> Float[Array, " k"]:
    """How often each code occurs."""
    return jnp.zeros((num_codes,), jnp.float32).at[codes].add(1.0)


def straight_through(z: Float[Array, "*n z"], q: Float[Array, "*n z"]) -> Float[Array, "*n z"]:
    """q, with the gradient of z (arXiv 1308.3432)."""
    return z + jax.lax.stop_gradient(q - z)


def rotation_trick(z: Float[Array, "n z"], q: Float[Array, "n z"]) -> Float[Array, "n z"]:
    """The code as z rotated and scaled, both held fixed, so that gradients turn along (arXiv
    2410.06424, section 4): points of one cell are pushed apart or together, which a copied gradient
    cannot.
    """
    norm_z = jnp.linalg.norm(jax.lax.stop_gradient(z), axis=-1, keepdims=True)
    q = jax.lax.stop_gradient(q)
    norm_q = jnp.linalg.norm(q, axis=-1, keepdims=True)
    a = jax.lax.stop_gradient(z) / jnp.maximum(norm_z, 1e-6)
    b = q / jnp.maximum(norm_q, 1e-6)
    r = a + b
    r = r / jnp.maximum(jnp.linalg.norm(r, axis=-1, keepdims=True), 1e-6)
    # The Householder product that takes a to b, applied without making a matrix.
    along_r = (z * r).sum(-1, keepdims=True)
    along_a = (z * a).sum(-1, keepdims=True)
    turned = z - 2.0 * along_r * r + 2.0 * along_a * b
    return turned * norm_q / jnp.maximum(norm_z, 1e-6)


GRADIENTS = {"straight_through": straight_through, "rotation": rotation_trick}
