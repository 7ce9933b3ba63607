"""The contract of objectives of the face stage, and what they see of a training step."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int8

from gen_jax.data.text import face_words
from gen_jax.tasks.feature_space import FeatureSpace

Features = Mapping[str, Array]
"""Name -> [b, n, n, c] of a grid of places, or [b, c] of the whole image."""


@runtime_checkable
class Scene(Protocol):
    """A step as an objective sees it.

    Attributes:
      features: the space that it is guided in.
      z_dim: numbers of a latent.
      real: images in [-1, 1], of the generator's channels, [b, h, w, c].
      batch: what the loader gave, features among it; of sentences, some are left out.
      frozen: towers.
      everything: group -> parameters, those that this loss does not train among them.
      extra: mutable collections.
      rngs: keys.
    """

    features: FeatureSpace
    z_dim: int
    real: Float[Array, "b h w c"]
    batch: Mapping[str, Any]
    frozen: Mapping[str, Any]
    everything: Mapping[str, Any]
    extra: Mapping[str, Any]
    rngs: Mapping[str, jax.Array]

    make: Callable[..., Float[Array, "b h w c"]]
    """(parameters of the model, z, key) -> images, each of the batch's sentence of its row. With
    `prompts=n` the first n sentences alone, for as many samples in a row each."""

    unlike: Callable[..., Float[Array, " b"]] | None
    """Images, each made for the real one of its row -> weighted perceptual distances; or None."""


class Objective:
    """Base of objectives, which are frozen dataclasses of numbers; a new one implements these.

    Attributes:
      groups: Parameter groups beside "model" that it trains, each by `loss_of_group`.
      has_pairs: Whether each generated image is made for a real one, so that both can be compared.
      takes_text: Whether it trains a generator that is conditioned on text.
      has_encoder: Whether `encode` gives latents of real images.
    """

    groups: ClassVar[tuple[str, ...]] = ()
    has_pairs: ClassVar[bool] = False
    takes_text: ClassVar[bool] = False
    has_encoder: ClassVar[bool] = False

    def init(self, scene: Scene, rng: jax.Array) -> tuple[dict, dict, dict]:
        """Returns parameters for the group "model", other groups' parameters, and collections."""
        return {}, {}, {}

    def loss(self, scene: Scene, params: Mapping[str, Any]) -> tuple[jax.Array, dict, dict]:
        """Returns the loss of the group "model", its metrics, and the collections that change."""
        raise NotImplementedError

    def loss_of_group(
        self, group: str, scene: Scene, params: Mapping[str, Any]
    ) -> tuple[jax.Array, dict]:
        """Returns the loss of one of `groups`, and its metrics."""
        raise NotImplementedError

    def encode(self, scene: Scene, params: Mapping[str, Any], features: Features) -> jax.Array:
        """Returns latents [b, z_dim] of stored features, if `has_encoder`."""
        raise NotImplementedError

    def draw(
        self, variables: Mapping[str, Any], normal: Float[Array, "b d"]
    ) -> Float[Array, "b d"]:
        """Returns latents of the prior, made from standard normal ones; by default these."""
        return normal


def tokens_of(features: Features) -> list[Float[Array, "b _ _"]]:
    """Each feature as places of channels, one place for the whole image's."""
    return [x.reshape(len(x), -1, x.shape[-1]) for x in features.values()]


def as_vector(features: Features) -> Float[Array, "b d"]:
    """All features of an image in a row, each feature's part of about the same length."""
    rows = []
    for x in tokens_of(features):
        flat = x.reshape(len(x), -1)
        rows.append(flat / flat.shape[-1] ** 0.5)
    return jnp.concatenate(rows, -1)


def asked_of(batch: Mapping[str, Any], count: int, prompts: int) -> Int8[Array, "n a"] | None:
    """What samples by the first sentences are asked to be; None where there are no sentences."""
    if "asked" not in batch:
        return None
    return batch["asked"][jnp.arange(count) // (count // prompts)]


def fits(asked: Int8[Array, "n a"], facts: Int8[Array, "m a"]) -> Bool[Array, "n m"]:
    """Whether all that is asked for is known to be so, or is asked for of the others, too."""
    unasked = asked[:, None] == face_words.UNKNOWN
    return (unasked | (asked[:, None] == facts[None])).all(-1)


def squared_error(a: Features, b: Features) -> Float[Array, " b"]:
    """Of features, in units of the real ones' mean square, averaged over names; `b` is real."""
    errors = []
    for name, real in b.items():
        real = jax.lax.stop_gradient(real)
        axes = tuple(range(1, real.ndim))
        scale = jnp.mean(jnp.square(real - real.mean(0, keepdims=True))) + 1e-6
        errors.append(jnp.mean(jnp.square(a[name] - real), axes) / scale)
    return sum(errors) / len(errors)


def likeness(
    scene, images: Float[Array, "b h w c"], real: Features, pixel_weight: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """How far images are from the real ones of their rows, by features, pixels, and perceptually.

    Args:
      scene: the step, see `Scene`.
      images: made for the real ones.
      real: features of these.
      pixel_weight: of pixels beside features.

    Returns:
      the weighted sum, and its parts.
    """
    features = squared_error(scene.features.computed(scene.frozen, images), real).mean()
    pixels = pixel_error(images, scene.real).mean()
    loss, metrics = features + pixel_weight * pixels, {"features": features, "pixels": pixels}
    if scene.unlike is not None:
        metrics["perceptual"] = scene.unlike(images).mean()
        loss += metrics["perceptual"]
    return loss, metrics


def pixel_error(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Mean absolute error of images in [-1, 1]."""
    return jnp.mean(jnp.abs(a - b), (1, 2, 3))
