"""Restorers that this project trained: run directories of the stage `restore`, and the packaged."""

import functools
import math
from collections.abc import Callable

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data.degradations.bicubic import imresize
from gen_jax.evaluation.restoration.benchmarks import Given
from gen_jax.pipelines.restoration import Restorer
from gen_jax.runs import reader


def build_run(folder: str, given: Given) -> Callable[[np.ndarray], np.ndarray]:
    """The best checkpoint of a run. It estimates what was done to a picture if it can, and is told
    of a factor of super-resolution, by which the picture is enlarged first; one that cannot
    estimate is told what is given.

    Gray pictures go through a network for colour as three equal channels.

    Raises:
      UserError: no finished run of that stage; when called, colour for a network of one channel.
    """
    restorer = _loaded(folder)
    network = restorer.model.task.network
    if "sigma" in network.conditions and given.sigma is None:
        kind = type(network).__name__
        raise UserError(f"restorer={folder}: its {kind} needs sigma, a benchmark of noise")
    told = {"sigma": given.sigma, "jpeg": None if given.quality is None else 100 - given.quality}
    known = {} if restorer.estimates else {k: v for k, v in told.items() if v is not None}
    if given.scale is not None:
        known["scale"] = math.log2(given.scale)

    def restore(image: np.ndarray) -> np.ndarray:
        if given.scale is not None:
            image = imresize(image, given.scale)
        channels = image.shape[-1]
        if channels > restorer.channels:
            raise UserError(
                f"restorer={folder}: trained on {restorer.channels} channels, these pictures "
                f"have {channels}"
            )
        if channels == restorer.channels:
            return restorer.array(image, known)
        return restorer.array(image.repeat(3, -1), known).mean(-1, keepdims=True)

    return restore


@functools.lru_cache(maxsize=1)
def _loaded(folder: str) -> Restorer:
    """Several strengths share what is read and compiled."""
    return Restorer(reader.load(folder), "restorer")
