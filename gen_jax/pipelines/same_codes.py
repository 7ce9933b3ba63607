"""Whether two runs that work on a VQ-VAE work on the same one."""

import re

import jax
import numpy as np

from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks.vqvae import ENCODER


def same_codes(model: TrainedModel, other: TrainedModel) -> bool:
    """Whether a code means the same to two runs; decoders may differ."""
    return _same(model, other, _coding)


def same_pictures(model: TrainedModel, other: TrainedModel) -> bool:
    """Whether equal codes become equal pictures by the VQ-VAEs of two runs."""
    return _same(model, other, lambda vqvae: vqvae)


def _same(model, other, part) -> bool:
    asked = [(m.task.vqvae.quantizer, m.task.vqvae.grid) for m in (model, other)]
    mine, theirs = (part(m.frozen["vqvae"]) for m in (model, other))
    if asked[0] != asked[1] or jax.tree.structure(mine) != jax.tree.structure(theirs):
        return False
    return all(map(_alike, jax.tree.leaves(mine), jax.tree.leaves(theirs)))


def _coding(vqvae):
    """The parameters that codes are found by."""
    encoder = {k: v for k, v in vqvae["params"].items() if re.match(ENCODER, k)}
    return vqvae["codebook"], encoder


def _alike(x, y) -> bool:
    """Equal but for rounding: one of the two may have been exported in 16 bits."""
    return x.shape == y.shape and np.allclose(x, y, rtol=1e-2, atol=1e-3)
