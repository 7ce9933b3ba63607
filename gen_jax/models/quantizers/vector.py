"""Vector quantization with a codebook of moving averages."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from gen_jax.common import ranges
from gen_jax.common.errors import UserError
from gen_jax.models.quantizers import base
from gen_jax.models.quantizers.nearest import k_means, nearest_code, sums_by_code


@dataclasses.dataclass(frozen=True)
class VectorQuantizer:
    """Nearest codes (arXiv 1711.00937), each the moving average of what chose it (appendix A.1).

    The codebook starts as the centres of the first batch, and a code that hardly anything chooses
    any more starts again at a latent of the batch (arXiv:2005.00341, section 3.1).

    Statistics are summed over the whole batch, on any number of devices. A train step on one
    device and on eight agrees to rounding unless a latent is equally near to two codes: the
    choice is hard, so two whole runs agree until the first such tie.

    Attributes:
      num_codes: in the codebook.
      dim: channels of a code; few are used more evenly than many (arXiv 2110.04627).
      depth: codes at one place, each for what the ones before it leave over (arXiv 2203.01941),
        with a codebook of its own.
      cosine: codes and latents of unit length, compared by angle (arXiv 2110.04627).
      decay: of the moving averages.
      gradient: `rotation` or `straight_through`.
      restart_below: a code is dead when it is chosen less often than this share of the mean; 0
        never restarts any.
      block: codes that distances are held of at one time.
    """

    num_codes: int = 256
    dim: int = 8
    depth: int = 1
    cosine: bool = True
    decay: float = 0.99
    gradient: str = "rotation"
    restart_below: float = 0.05
    block: int = 4096

    def __post_init__(self):
        where = "config.task.quantizer"
        if self.gradient not in base.GRADIENTS:
            raise UserError(
                f"{where}.gradient={self.gradient!r}: expected {' or '.join(base.GRADIENTS)}"
            )
        for name, low in (("num_codes", 2), ("dim", 1), ("depth", 1), ("block", 1)):
            ranges.check_range(getattr(self, name), ranges.Range(low), f"{where}.{name}", int)
        between = ranges.Range(0, 1, open_low=True, open_high=True)
        ranges.check_range(self.decay, between, f"{where}.decay")
        if self.cosine and self.depth > 1:
            raise UserError(
                f"{where}.depth={self.depth}: what is left over has no unit length; set "
                f"cosine=False, or depth=1"
            )
        if self.cosine and self.dim < 2:
            raise UserError(f"{where}.dim={self.dim}: cosine codes of one channel are but two")

    def init(self, rng: jax.Array) -> dict[str, jax.Array]:
        """Random codes; `prepare` replaces them before they are used."""
        shape = (self.depth, self.num_codes, self.dim)
        codes = self._unit(jax.random.normal(rng, shape))
        return {
            "codes": codes,
            "count": jnp.ones(shape[:2]),
            "sum": codes,
            "updates": jnp.zeros((), jnp.int32),
        }

    def prepare(
        self, z: Float[Array, "b h w z"], book: base.Codebook, rng: jax.Array
    ) -> base.Codebook:
        """Before the first update, the centres of these latents by k-means; else unchanged."""
        flat = self._unit(rearrange(jax.lax.stop_gradient(z), "b h w z -> (b h w) z"))

        def start(flat, book):
            codes, counts, rest = [], [], flat
            for level in range(self.depth):
                key = jax.random.fold_in(rng, level)
                centres, count = k_means(rest, self.num_codes, key, block=self.block)
                centres = self._unit(centres)
                codes.append(centres)
                counts.append(count)
                rest = rest - centres[nearest_code(rest, centres, self.block)]
            codes, count = jnp.stack(codes), jnp.stack(counts)
            return {**book, "codes": codes, "count": count, "sum": codes * count[..., None]}

        return jax.lax.cond(book["updates"] == 0, start, lambda _, book: dict(book), flat, book)

    def __call__(self, z: Float[Array, "b h w z"], book: base.Codebook) -> base.Quantized:
        """Latents to their codes."""
        b, h, w, _ = z.shape
        flat = self._unit(z.reshape(b * h * w, -1))
        codes, q = [], jnp.zeros_like(flat)
        for level in range(self.depth):
            chosen = nearest_code(jax.lax.stop_gradient(flat - q), book["codes"][level], self.block)
            q = q + book["codes"][level][chosen]
            codes.append(chosen)
        q = jax.lax.stop_gradient(q)
        return base.Quantized(
            latent=base.GRADIENTS[self.gradient](flat, q).reshape(b, h, w, -1),
            codes=jnp.stack(codes, -1).reshape(b, h, w, -1),
            commitment=((flat - q) ** 2).mean(),
        )

    def update(
        self,
        z: Float[Array, "b h w z"],
        found: base.Quantized,
        book: base.Codebook,
        rng: jax.Array,
    ) -> tuple[base.Codebook, Mapping[str, jax.Array]]:
        """Moves each code to the mean of what chose it lately; metrics `perplexity` and `usage` of
        this batch, `restarted` codes.
        """
        rest = self._unit(rearrange(jax.lax.stop_gradient(z), "b h w z -> (b h w) z"))
        levels, metrics = [], []
        for level in range(self.depth):
            chosen = found.codes[..., level].reshape(-1)
            mine = {k: book[k][level] for k in ("codes", "count", "sum")}
            new, seen = self._update_level(
                rest, chosen, mine, book["updates"], jax.random.fold_in(rng, level)
            )
            levels.append(new)
            metrics.append(seen)
            rest = rest - mine["codes"][chosen]
        new = {k: jnp.stack([level[k] for level in levels]) for k in levels[0]}
        merged = {k: jnp.stack([m[k] for m in metrics]).mean() for k in metrics[0]}
        return {**new, "updates": book["updates"] + 1}, merged

    def _update_level(self, z, chosen, book, updates, rng):
        counts, sums = sums_by_code(z, chosen, self.num_codes, self.block)
        # What k-means counted is the past of the first batch: it must not count twice.
        decay = jnp.where(updates == 0, 0.0, self.decay)
        count = decay * book["count"] + (1.0 - decay) * counts
        total = decay * book["sum"] + (1.0 - decay) * sums
        codes = self._unit(total / jnp.maximum(count, 1e-6)[:, None])
        codes = jnp.where(count[:, None] > 1e-6, codes, book["codes"])
        mean = len(z) / self.num_codes
        dead = count < self.restart_below * mean
        drawn = jax.random.permutation(rng, len(z))[jnp.arange(self.num_codes) % len(z)]
        codes = jnp.where(dead[:, None], z[drawn], codes)
        # A new code has as many as the mean: time to be chosen before it is judged.
        count = jnp.where(dead, mean, count)
        total = jnp.where(dead[:, None], codes * mean, total)
        metrics = base.usage_metrics(counts) | {"restarted": dead.astype(jnp.float32).sum()}
        return {"codes": codes, "count": count, "sum": total}, metrics

    def lookup(self, codes: Int[Array, "b h w d"], book: base.Codebook) -> Float[Array, "b h w z"]:
        """Codes to latents."""
        return sum(book["codes"][level][codes[..., level]] for level in range(self.depth))

    def _unit(self, x):
        if not self.cosine:
            return x
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
