"""From continuous latents to codes and back: pure functions, the codebook an argument."""

from gen_jax.models.quantizers.base import Quantized, Quantizer
from gen_jax.models.quantizers.fsq import FSQ
from gen_jax.models.quantizers.vector import VectorQuantizer

QUANTIZERS = {"vector": VectorQuantizer, "fsq": FSQ}

__all__ = ["FSQ", "QUANTIZERS", "Quantized", "Quantizer", "VectorQuantizer"]
