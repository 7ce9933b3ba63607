"""Activation functions by the names that diffusers' configs use."""

import functools
from collections.abc import Callable

import jax

from gen_jax.common.errors import UserError

ACTIVATIONS: dict[str, Callable] = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": jax.nn.mish,
    # torch's GELU is the exact one by default, JAX's is the tanh approximation.
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    # The sigmoid approximation of OpenAI's CLIP.
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
}


def get_activation(name: str) -> Callable:
    """The elementwise function called `name` (see `ACTIVATIONS`)."""
    if name not in ACTIVATIONS:
        raise UserError(f"act_fn={name!r} is unknown: use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
