"""Classifier-free guidance as a transform of denoise functions (arXiv 2207.12598).

A denoise function `DenoiseFn` is (x_t [b, ...], t [b]) -> output [b, ...]: the
network's output in the process's own prediction type, at times in the process's
own units (float32; the network is fed `process.model_time(t)`). Guidance mixes
outputs, and the samplers turn the mixture into x_0 and eps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.diffusion.schedules import Process, expand

DenoiseFn = Callable[[Array, Array], Array]

Scale = float | int | Array | Callable[[Array], Array]
"""Of guidance: one number, one a sample, or a function of the times [b] that gives one a sample."""


def within(
    scale: float | int, low: float | int, high: float | int, process: Process
) -> Callable[[Array], Array]:
    """Guidance at the times from `low` to `high` only, 1 elsewhere (arXiv 2404.07724).

    Args:
        scale: inside.
        low: where the interval begins, as a share of the time range: 0 is no noise.
        high: where it ends: 1 is nothing but noise.
        process: whose times they are.
    """
    last = 1.0 if process.is_flow else process.num_train_timesteps - 1.0

    def at(t):
        share = jnp.asarray(t, jnp.float32) / last
        return jnp.where((share >= low) & (share <= high), jnp.float32(scale), jnp.float32(1.0))

    return at


def checked_interval(interval: Any, where: str) -> tuple[float, float]:
    """`interval` as the pair that `within` takes.

    Args:
        interval: two numbers.
        where: the key or flag that it stands under, for the error message.

    Raises:
        UserError: it is no part of the time range.
    """
    try:
        low, high = (float(v) for v in interval)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not 0 <= low <= high <= 1:
        raise UserError(
            f"{where}={interval}: expected two shares of the time range, 0 <= LOW <= HIGH <= 1"
        )
    return low, high


def combine(
    cond: Float[Array, "b ..."],
    uncond: Float[Array, "b ..."],
    scale: float | int | Float[Array, ""] | Float[Array, "b"],
    rescale: float | int = 0.0,
) -> Float[Array, "b ..."]:
    """Mixes two outputs, uncond + scale (cond - uncond), with `rescale` of the contrast put back.

    Args:
        cond: output under the condition.
        uncond: output under the empty condition.
        scale: 1 is the conditional output, 0 the unconditional; one number or one a sample.
        rescale: in [0, 1]; 1 gives each sample the standard deviation of `cond`
            (arXiv 2305.08891, section 3.4), 0 leaves the mixture as it is.
    """
    scale = jnp.asarray(scale, jnp.float32)
    scale = expand(scale if scale.ndim else scale.reshape(1), cond.ndim)
    cond, uncond = cond.astype(jnp.float32), uncond.astype(jnp.float32)
    out = uncond + scale * (cond - uncond)
    if rescale == 0.0:
        return out
    axes = tuple(range(1, cond.ndim))
    ratio = jnp.std(cond, axes, keepdims=True) / jnp.maximum(
        jnp.std(out, axes, keepdims=True), 1e-8
    )
    return out * (rescale * ratio + (1 - rescale))


def guided(
    denoise_cond: DenoiseFn,
    denoise_uncond: DenoiseFn,
    scale: Scale,
    rescale: float | int = 0.0,
) -> DenoiseFn:
    """The guided denoise function of two others, called one after the other."""

    def denoise(x_t, t):
        return combine(denoise_cond(x_t, t), denoise_uncond(x_t, t), _at(scale, t), rescale)

    return denoise


def guided_batched(
    denoise: Callable[[Array, Array, Any], Array],
    cond: Any,
    uncond: Any,
    scale: Scale,
    rescale: float | int = 0.0,
) -> DenoiseFn:
    """The same in one call on a batch of 2b: faster where the device has room for it.

    Args:
        denoise: (x_t, t, condition) -> output.
        cond: the condition, a tree of arrays [b, ...].
        uncond: the empty condition, a tree of the same shapes.
        scale: as in `combine`, or a function of t.
        rescale: as in `combine`.
    """

    # Each pair side by side, so that a batch split over devices stays where it is.
    def paired(a, b):
        return jnp.stack([a, b], axis=1).reshape(2 * a.shape[0], *a.shape[1:])

    both = jax.tree.map(paired, cond, uncond)

    def denoise_both(x_t, t):
        out = denoise(paired(x_t, x_t), paired(t, t), both)
        out = out.reshape(-1, 2, *out.shape[1:])
        return combine(out[:, 0], out[:, 1], _at(scale, t), rescale)

    return denoise_both


def _at(scale: Scale, t: Array):
    return scale(t) if callable(scale) else scale
