"""Reading what is asked: a linear probe on the frozen features names what a face shows.

It learns on real faces of which the facts are known, while generated ones learn to be named as
they were asked for: an auxiliary classifier (arXiv 1610.09585) that sees what guides.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from gen_jax.data.text import face_words
from gen_jax.tasks.objectives.base import Features, asked_of, tokens_of

_KEPT = 0.5  # of places, those that a reading sees: no single one decides
_GAIN = 3.0  # of what it sees, so that it learns as fast as a generator does
_EPSILON = 1e-6


class Reader(nn.Module):
    """Logits of every value of every attribute, from all places of all features."""

    @nn.compact
    def __call__(
        self, features: Features, key: jax.Array | None = None
    ) -> dict[str, Float[Array, "b v"]]:
        """Attribute -> logits of its values; with a key, of some of the places alone."""
        rows = []
        for i, x in enumerate(tokens_of(features)):
            x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + _EPSILON)
            if key is not None and x.shape[1] > 1:
                seen = jax.random.bernoulli(jax.random.fold_in(key, i), _KEPT, (*x.shape[:2], 1))
                x = x * seen / _KEPT
            rows.append(_GAIN * x.reshape(len(x), -1) / x[0].size ** 0.5)
        row = jnp.concatenate(rows, -1)
        return {
            name: nn.Dense(len(values), kernel_init=nn.initializers.zeros, name=name)(row)
            for name, values in face_words.ATTRIBUTES.items()
        }


def init(scene, rng: jax.Array, weight: float) -> dict[str, dict]:
    """A reader's parameters; none without a weight, or where there are no sentences."""
    if not weight or "facts" not in scene.batch:
        return {}
    return {"reader": Reader().init(rng, scene.features.stored(scene.batch))["params"]}


def reading(
    scene, params, fake: Features, prompts: int, weight: float
) -> tuple[jax.Array | float, dict[str, jax.Array]]:
    """How wrong the probe is about real faces, and about generated ones of the first sentences.

    Args:
      scene: see `base.Scene`, with "facts" and "asked" in its batch.
      params: the model's, with what `init` made among them; generated faces do not change that.
      fake: features of the generated faces.
      prompts: sentences that they are of.
      weight: of generated faces beside real ones.

    Returns:
      the sum of both mean cross-entropies, and of either kind the share that is named right;
      nothing where there is no reader.
    """
    if "reader" not in params:
        return 0.0, {}
    real = scene.features.stored(scene.batch)
    keys = jax.random.split(scene.rngs["reading"])
    reader = {"params": params["reader"]}
    learnt, right = _error(Reader().apply(reader, real, keys[0]), scene.batch["facts"])
    asked = asked_of(scene.batch, len(jax.tree.leaves(fake)[0]), prompts)
    still = jax.lax.stop_gradient(reader)
    heard, as_asked = _error(Reader().apply(still, fake, keys[1]), asked)
    return learnt + weight * heard, {"read_real": right, "read_asked": as_asked}


def _error(logits, values: Int8[Array, "b a"]):
    """Cross-entropy and share named right, over all that is known."""
    lost, right, known = 0.0, 0.0, 0.0
    for place, name in enumerate(face_words.ATTRIBUTES):
        found, value = logits[name], values[:, place]
        truth = jax.nn.one_hot(value, found.shape[-1])  # nothing where it is unknown
        lost -= (jax.nn.log_softmax(found) * truth).sum()
        right += (found.argmax(-1) == value).sum()
        known += truth.sum()
    known = jnp.maximum(known, 1.0)
    return lost / known, right / known
