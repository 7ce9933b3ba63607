"""LPIPS over many pairs of images, its tower named as "NAME:WEIGHTS"."""

import functools
from collections.abc import Callable

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.encoders import catalog, preprocess
from gen_jax.encoders.batched import Batched
from gen_jax.encoders.lpips import LPIPS


@functools.lru_cache(maxsize=2)
def open_distance(spec: str, batch_size: int = 64) -> Callable[..., np.ndarray]:
    """Loads a tower of LPIPS.

    Args:
      spec: "NAME:WEIGHTS", see `catalog.parse`.
      batch_size: pairs at once.

    Returns:
      A function of two stacks of uint8 images [n, h, w, 3]: the distance of each pair, [n].

    Raises:
      UserError: a tower that is none of LPIPS's, or no fitting weights.
    """
    name, weights = catalog.parse(spec)
    module, params = catalog.load(name, weights)
    if not isinstance(module, LPIPS):
        raise UserError(f"encoder {name!r} is no distance: expected one of the lpips towers")

    def forward(params, x, y):
        x, y = (preprocess.normalize(v, "signed") for v in (x, y))
        return module.apply({"params": params}, x, y)

    return Batched(forward, params, batch_size)
