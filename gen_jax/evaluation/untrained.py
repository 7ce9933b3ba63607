"""Features of an untrained network, in batches; see `metrics.features`."""

import jax
import numpy as np

from gen_jax.metrics import features as features_lib


def random_features(unit: np.ndarray, batch_size: int = 128) -> np.ndarray:
    """Features of images in [0, 1], `[n, h, w, 3]` -> `[n, d]`."""
    parts = range(0, len(unit), batch_size)
    return np.concatenate([_features(unit[i : i + batch_size]) for i in parts])


def suffix(encoder: str) -> str:
    """Returns what follows the name of a distance: "_untrained" if no encoder is named.

    Such numbers can be compared with each other alone, never with published FID or KID.
    """
    return "" if encoder else "_untrained"


_features = jax.jit(features_lib.random_conv_features)
