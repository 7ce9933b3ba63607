"""Adversarial, the control: a discriminator of patches, or one that reads the frozen features.

With `drifting_weight` the generated features drift besides.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.data.text import face_words
from gen_jax.losses import adversarial
from gen_jax.models.patch_discriminator import PatchDiscriminator
from gen_jax.tasks.objectives import reading
from gen_jax.tasks.objectives.base import Objective, asked_of, tokens_of
from gen_jax.tasks.objectives.drifting import Drifting

_EACH_REAL = Drifting(real_per_generated=1)


@dataclasses.dataclass(frozen=True)
class Adversarial(Objective):
    """Non-saturating losses (arXiv 1406.2661).

    Attributes:
      discriminator: "patch", of pixels, with its gradient at real images penalised (arXiv
        1801.04406); or "projected", of the frozen tower's features, stored for real images (arXiv
        2111.01007).
      channels: of the patch discriminator's first layer, or of the projected one's hidden layers.
      num_layers: of stride 2, of the patch discriminator.
      r1_weight: of that penalty.
      range_weight: of the mean square of what leaves [-1, 1]: to a discriminator with normalisation
        the strength of a picture is nothing, and without this it grows without bounds.
      drifting_weight: of the fields of `Drifting` beside the discriminator, 0 for none.
      drifting: Its settings.
      classifier_weight: of what `reading.reading` says of generated images, where there are
        sentences.
    """

    discriminator: str = "patch"
    channels: int = 32
    num_layers: int = 3
    r1_weight: float = 1.0
    range_weight: float = 1.0
    drifting_weight: float = 0.0
    drifting: Drifting = _EACH_REAL
    classifier_weight: float = 0.0

    groups = ("disc",)
    parts: ClassVar = {"drifting": Part(Drifting)}

    @property
    def takes_text(self) -> bool:
        """The discriminator of patches is shown what a sentence asks for."""
        return self.discriminator == "patch"

    def __post_init__(self):
        if self.discriminator not in ("patch", "projected"):
            raise UserError(
                f"config.task.objective.discriminator={self.discriminator!r}: expected patch or "
                "projected"
            )

    def init(self, scene, rng):
        """Parameters of the discriminator."""
        x = scene.real
        if self.discriminator == "projected":
            x = scene.features.stored(scene.batch)
        told = reading.init(scene, rng, self.classifier_weight)
        return told, {"disc": self._module().init(rng, _told(scene, x))["params"]}, {}

    def loss(self, scene, params):
        """The generator's."""
        z = jax.random.normal(scene.rngs["z"], (len(scene.real), scene.z_dim))
        prompts = self.drifting.prompts_of(scene, len(z)) if self.drifting_weight else len(z)
        images = scene.make(params, z, scene.rngs["noise"], prompts)
        logits = self._logits(scene, scene.everything["disc"], self._seen(scene, images), prompts)
        loss = adversarial.non_saturating_generator(logits).mean()
        outside = jnp.square(jax.nn.relu(jnp.abs(images) - 1.0)).mean()
        metrics = {"fake": logits.mean(), "outside": outside}
        loss += self.range_weight * outside
        if self.drifting_weight or "reader" in params:
            features = scene.features.computed(scene.frozen, images)
            error, read = reading.reading(scene, params, features, prompts, self.classifier_weight)
            loss, metrics = loss + error, metrics | read
        if self.drifting_weight:
            fields, forces, _ = self.drifting.of_images(scene, images, features, prompts)
            loss, metrics = loss + self.drifting_weight * fields, metrics | forces
        return loss, metrics, {}

    def loss_of_group(self, group, scene, params):
        """The discriminator's."""
        z = jax.random.normal(scene.rngs["z"], (len(scene.real), scene.z_dim))
        images = scene.make(scene.everything["model"], z, scene.rngs["noise"])
        seen = self._seen(scene, jax.lax.stop_gradient(images))
        fake = self._logits(scene, params, seen)
        seen = scene.real
        if self.discriminator == "projected":
            seen = scene.features.stored(scene.batch)
        real = self._logits(scene, params, seen)
        loss = adversarial.non_saturating_discriminator(real, fake).mean()
        metrics = {"real": real.mean(), "fake": fake.mean()}
        if self.discriminator == "patch" and self.r1_weight:
            penalty = adversarial.r1_penalty(lambda x: self._logits(scene, params, x), seen).mean()
            # A mean over patches, or more of them would be penalised more.
            metrics["r1"] = penalty / real[0].size ** 2
            loss += self.r1_weight * metrics["r1"]
        return loss, metrics

    def _seen(self, scene, images):
        if self.discriminator == "patch":
            return images
        return scene.features.computed(scene.frozen, images)

    def _module(self):
        if self.discriminator == "patch":
            return PatchDiscriminator(self.channels, self.num_layers)
        return _FeatureDiscriminator(self.channels)

    def _logits(self, scene, params, x, prompts=None):
        return self._module().apply({"params": params}, _told(scene, x, prompts))


def _told(scene, x, prompts=None):
    """Images with what each is asked to be, a plane a value; as they are without sentences."""
    if "asked" not in scene.batch:
        return x
    asked = asked_of(scene.batch, len(x), prompts or len(x))
    sizes = [len(values) for values in face_words.ATTRIBUTES.values()]
    planes = [jax.nn.one_hot(asked[:, i], size) for i, size in enumerate(sizes)]
    planes = jnp.concatenate(planes, -1)[:, None, None]
    planes = jnp.broadcast_to(planes, (*x.shape[:3], planes.shape[-1]))
    return jnp.concatenate([x, planes], -1)


class _FeatureDiscriminator(nn.Module):
    """A small head for each feature, place by place; logits of all heads in a row."""

    channels: int

    @nn.compact
    def __call__(self, features):
        found = []
        for name, x in zip(features, tokens_of(features), strict=True):
            key = name.replace(".", "_")
            x = nn.LayerNorm(name=f"norm_{key}")(x)
            x = nn.leaky_relu(nn.Dense(self.channels, name=f"hidden_{key}")(x), 0.2)
            found.append(nn.Dense(1, name=f"logit_{key}")(x)[..., 0])
        return jnp.concatenate(found, -1)
