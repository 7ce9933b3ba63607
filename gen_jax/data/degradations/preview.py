"""A contact sheet of every preset: what a loader would hand a network."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from gen_jax.common import pictures
from gen_jax.data.degradations.base import from_bytes, to_bytes
from gen_jax.data.degradations.presets import PRESETS, build


def sheet(
    images: Sequence[UInt8[np.ndarray, "h w 3"]], seed: int = 0
) -> UInt8[np.ndarray, "height width 3"]:
    """A row of clean images, and one for each preset with what was drawn under each picture.

    Args:
      images: of one size.
      seed: of the draws.
    """
    shown, captions = list(images), ["clean"] * len(images)
    for name in PRESETS:
        degradation = build(name)
        for column, image in enumerate(images):
            rng = np.random.default_rng([seed, column, *name.encode()])
            found, drawn = degradation(from_bytes(image), rng)
            shown.append(to_bytes(found))
            values = " ".join(f"{k} {v:.3g}" for k, v in drawn.items())
            captions.append(f"{name}: {values}" if column == 0 else values or "nothing")
    return pictures.grid(np.stack(shown), captions, columns=len(images), scale=1)
