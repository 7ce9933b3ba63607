"""Whether two runs that work on a VQ-VAE work on the same one."""

import re

import jax
import numpy as np

from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks.vqvae import ENCODER


def same_codes(model: TrainedModel, other: TrainedModel) -> bool:
    """Whether a code means the same to two priors; decoders may differ."""
    return _same(model, other, lambda m: (m.task.vqvae.quantizer, m.task.prior.grid), _coding)


def same_pictures(model: TrainedModel, other: TrainedModel) -> bool:
    """Whether equal codes become equal pictures by the VQ-VAEs of two runs."""
    return _same(model, other, lambda m: (m.task.vqvae.quantizer, m.task.vqvae.grid), lambda v: v)


def _same(model, other, shape_of, part) -> bool:
    asked = [shape_of(m) for m in (model, other)]
    mine, theirs = (part(dict(m.frozen["vqvae"])) for m in (model, other))
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
