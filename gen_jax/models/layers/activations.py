"""Activation functions by the names that diffusers' configs use."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact GELU (arXiv:1606.08415), as torch computes it.

    By erf: `jax.nn.gelu(approximate=False)` is by erfc, which takes four times as long on a CPU.
    In float32 whatever comes in, as 1 + erf has nothing left of small values in bfloat16.
    """
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


ACTIVATIONS: dict[str, Callable] = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": jax.nn.mish,
    # torch's GELU is the exact one by default, JAX's is the tanh approximation.
    "gelu": gelu,
    # The sigmoid approximation of OpenAI's CLIP.
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
}


def get_activation(name: str) -> Callable:
    """The elementwise function called `name` (see `ACTIVATIONS`)."""
    if name not in ACTIVATIONS:
        raise UserError(f"act_fn={name!r} is unknown: use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
