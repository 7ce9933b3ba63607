"""Pictures with several faults, of which an instruction asks some to be removed."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from gen_jax.common import ranges
from gen_jax.data.degradations.base import Image, combined, from_bytes, to_bytes
from gen_jax.data.degradations.blur import Blur
from gen_jax.data.degradations.codec import Jpeg
from gen_jax.data.degradations.noise import Gaussian
from gen_jax.data.degradations.resample import Downscale
from gen_jax.data.text import instructions


class Instructed(NamedTuple):
    """What `Instructions` makes of a clean picture.

    Attributes:
      degraded: float32, the picture's shape.
      target: what the instruction asks for, 8 bits.
      drawn: name of `PARAMETERS` -> value.
      kind: of `instructions.KINDS`.
      prompt: the instruction; "" asks for everything.
    """

    degraded: Float[np.ndarray, "h w c"]
    target: UInt8[np.ndarray, "h w c"]
    drawn: dict[str, float]
    kind: str
    prompt: str


@dataclasses.dataclass(frozen=True)
class Instructions:
    """Contradictory faults in the order of a camera: softness, noise, compression.

    What stays is what was there: an instruction to sharpen keeps the very noise of the picture, one
    to denoise its very blur. Compression is never put back, as no one asks for artefacts.

    Attributes:
      contradiction_prob: Probability of contradictory faults. The other images have `otherwise`
        done to them and are restored in full.
      otherwise: Degradation of the other images.
      prompt_prob: Probability that one of the other images has a prompt.
      kinds: Kinds of instructions about contradictory faults, drawn with equal probability.
    """

    contradiction_prob: float
    otherwise: Any
    prompt_prob: float = 0.3
    kinds: tuple[str, ...] = instructions.KINDS

    def __post_init__(self):
        for name in ("contradiction_prob", "prompt_prob"):
            ranges.check_range(getattr(self, name), ranges.SHARE, name)

    def __call__(self, clean: UInt8[np.ndarray, "h w c"], rng: np.random.Generator) -> Instructed:
        """Degrades a picture and says what for."""
        x = from_bytes(clean)
        if rng.random() < self.contradiction_prob:
            kind = self.kinds[rng.integers(len(self.kinds))]
            return contradictory(x, kind, rng)
        degraded, drawn = self.otherwise(x, rng)
        prompt = ""
        if rng.random() < self.prompt_prob:
            described = instructions.describe(drawn, rng) if rng.random() < 0.5 else ""
            prompt = described or instructions.instruct(instructions.RESTORE, drawn, rng)
        return Instructed(degraded, clean, drawn, instructions.RESTORE, prompt)


def contradictory(x: Image, kind: str, rng: np.random.Generator) -> Instructed:
    """Two or three faults, and the target of one instruction."""
    soften = Blur((0.7, 2.0)) if rng.random() < 0.5 else Downscale((1.5, 4.0), up=("bicubic",))
    soft, drawn = soften(x, rng)
    noisy, values = Gaussian((8.0, 40.0), gray=0.2)(soft, rng)
    drawn, noise = combined(drawn, values), noisy - soft
    degraded = from_bytes(to_bytes(noisy))
    if kind == instructions.DECOMPRESS or rng.random() < 0.3:
        degraded, values = Jpeg((20, 80))(noisy, rng)
        drawn = combined(drawn, values)
    target = {
        instructions.RESTORE: x,
        instructions.DENOISE: soft,
        instructions.SHARPEN: x + noise,
        instructions.DECOMPRESS: noisy,
        instructions.KEEP: degraded,
    }[kind]
    prompt = instructions.instruct(kind, drawn, rng)
    return Instructed(degraded, to_bytes(target), drawn, kind, prompt)
