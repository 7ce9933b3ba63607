"""Finite scalar quantization: a grid instead of a codebook."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gen_jax.common.errors import UserError
from gen_jax.models.quantizers import base

# What tanh is kept short of, so that the outermost values can be reached and left again.
_ROOM = 1e-3


@dataclasses.dataclass(frozen=True)
class FSQ:
    """Each channel is squashed and rounded to few values (arXiv 2309.15505); nothing to collapse.

    Attributes:
      levels: values of each channel; a code is one of their product. The paper's: (8, 6, 5) for
        about 256 codes, (8, 5, 5, 5) for about 1,024.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)

    depth = 1

    def __post_init__(self):
        if not self.levels or min(self.levels) < 2:
            raise UserError(
                f"config.task.quantizer.levels={self.levels}: expected numbers of 2 or more, such "
                "as (8, 5, 5, 5)"
            )

    @property
    def dim(self) -> int:
        """Channels of the latents."""
        return len(self.levels)

    @property
    def num_codes(self) -> int:
        """Values that a code may have."""
        return math.prod(self.levels)

    def init(self, rng: jax.Array) -> dict[str, jax.Array]:
        """Nothing is learnt."""
        return {}

    def prepare(
        self, z: Float[Array, "b h w z"], book: base.Codebook, rng: jax.Array
    ) -> base.Codebook:
        """Nothing to start."""
        return book

    def __call__(self, z: Float[Array, "b h w z"], book: base.Codebook) -> base.Quantized:
        """Latents to their codes; quantized latents lie in [-1, 1]."""
        bounded = self._bounded(z)
        rounded = base.straight_through(bounded, jnp.round(bounded))
        half = self._levels() // 2
        digits = (jnp.round(jax.lax.stop_gradient(bounded)) + half[None, None, None]).astype(
            jnp.int32
        )
        codes = (digits * self._basis()[None, None, None]).sum(-1, keepdims=True)
        return base.Quantized(
            latent=rounded / half[None, None, None],
            codes=codes.astype(jnp.int32),
            commitment=jnp.zeros(()),
        )

    def update(
        self,
        z: Float[Array, "b h w z"],
        found: base.Quantized,
        book: base.Codebook,
        rng: jax.Array,
    ) -> tuple[base.Codebook, Mapping[str, jax.Array]]:
        """Metrics `perplexity` and `usage` of this batch."""
        counts = base.counts_of(found.codes.reshape(-1), self.num_codes)
        return book, base.usage_metrics(counts)

    def lookup(self, codes: Int[Array, "b h w d"], book: base.Codebook) -> Float[Array, "b h w z"]:
        """Codes to latents."""
        levels, basis = self._levels()[None, None, None], self._basis()[None, None, None]
        digits = (codes // basis) % levels
        half = levels // 2
        return (digits - half) / half.astype(jnp.float32)

    def _levels(self):
        return jnp.asarray(self.levels, jnp.int32)

    def _basis(self):
        return jnp.asarray([math.prod(self.levels[:i]) for i in range(self.dim)], jnp.int32)

    def _bounded(self, z):
        """Each channel within half a step of its outermost values; an even number of them lies
        around a shifted zero, or it would have one too many.
        """
        levels = self._levels().astype(jnp.float32)
        reach = (levels - 1.0) * (1.0 + _ROOM) / 2.0
        offset = jnp.where(self._levels() % 2 == 0, 0.5, 0.0)
        shift = jnp.arctanh(offset / reach)
        axes = (None, None, None)
        return jnp.tanh(z + shift[axes]) * reach[axes] - offset[axes]
