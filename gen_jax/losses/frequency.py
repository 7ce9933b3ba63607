"""A distance between spectra, which weighs fine detail that pixel errors average away."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def frequency_l1(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Mean absolute difference of the orthonormal Fourier transforms (MIMO-UNet, arXiv:2108.05054).

    Args:
      x: images.
      y: what they are compared with.

    Returns:
      The mean over real and imaginary parts, one number a sample, 0 where the two are equal.
    """
    difference = x.astype(jnp.float32) - y.astype(jnp.float32)
    spectrum = jnp.fft.rfft2(difference, axes=(1, 2), norm="ortho")
    parts = jnp.abs(spectrum.real) + jnp.abs(spectrum.imag)
    return parts.reshape(len(x), -1).mean(1) / 2
