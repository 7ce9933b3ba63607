"""Features of images by a tower that judges generated ones: another than the one that guides."""

import collections
import hashlib

import numpy as np
from jaxtyping import Float, UInt8

from gen_jax.common import pixels
from gen_jax.common.errors import UserError
from gen_jax.encoders import image_features
from gen_jax.evaluation.base import Predictor
from gen_jax.evaluation.untrained import random_features

_KEPT = 12  # sets of images

# Several evaluators look at the same images, and every evaluation at the same real ones.
_known: collections.OrderedDict[tuple[str, bytes], np.ndarray] = collections.OrderedDict()


def features_by(
    encoder: str, predict: Predictor, images: UInt8[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, "n d"]:
    """Features of images; those of the last few sets of images are remembered.

    Args:
      encoder: "NAME[:WEIGHTS]" of the tower; "" is an untrained network.
      predict: of the task that is judged.
      images: pictures.

    Raises:
      UserError: it is the tower that the training was guided by.
    """
    space = predict.task.feature_space
    if encoder and space is not None and encoder == space.encoder:
        raise UserError(
            f"config.evaluators: encoder={encoder} guides the training, and what is trained on a "
            "distance cannot be judged by it; name another tower"
        )
    images = np.ascontiguousarray(images)
    key = (encoder, hashlib.sha256(repr(images.shape).encode() + images.tobytes()).digest())
    if key not in _known:
        _known[key] = _features(encoder, images)
    _known.move_to_end(key)
    while len(_known) > _KEPT:
        _known.popitem(last=False)
    return _known[key]


def _features(encoder, images):
    if not encoder:
        return np.asarray(random_features(pixels.to_unit(images)))
    return image_features.open_features(encoder)(images)
