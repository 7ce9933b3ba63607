"""IMLE in feature space: every real image pulls the nearest of many samples (arXiv 1809.09087)."""

import dataclasses

import jax
import jax.numpy as jnp

from gen_jax.common.errors import UserError
from gen_jax.losses.imle import mean_nearest_distance, nearest
from gen_jax.tasks.objectives.base import Objective, as_vector, likeness


@dataclasses.dataclass(frozen=True)
class IMLE(Objective):
    """Chooses by features, then brings features and pixels of the chosen to the real image's.

    Attributes:
      samples_per_image: drawn for each real image; they all compete for all of the batch.
      radius: of rejection (arXiv 2409.17439), in mean distances of real images to their nearest.
      distinct: whether no sample is chosen for two images of a batch. While samples differ little,
        the few that are nearest to the mean would be chosen for all.
      pixel_weight: of the mean absolute error beside that of features.
    """

    samples_per_image: int = 4
    radius: float = 0.5
    distinct: bool = True
    pixel_weight: float = 0.5

    has_pairs = True

    def __post_init__(self):
        if self.samples_per_image < 1:
            raise UserError(
                f"config.task.objective.samples_per_image={self.samples_per_image}: expected 1 or "
                "more"
            )

    def loss(self, scene, params):
        """Errors of the chosen samples, and how far they were."""
        b = len(scene.real)
        z = jax.random.normal(scene.rngs["z"], (b * self.samples_per_image, scene.z_dim))
        real = scene.features.stored(scene.batch)
        ours = as_vector(real)
        model = jax.lax.stop_gradient(params)

        def described(part):
            z, key = part
            images = scene.make(model, z, key)
            return as_vector(scene.features.computed(scene.frozen, images))

        # A part at a time: of what does not win, nothing has to be kept.
        keys = jax.random.split(scene.rngs["noise"], self.samples_per_image)
        parts = z.reshape(self.samples_per_image, b, -1)
        pool = jax.lax.map(described, (parts, keys)).reshape(self.samples_per_image * b, -1)
        radius = self.radius * mean_nearest_distance(ours)
        chosen, distance = nearest(ours, jax.lax.stop_gradient(pool), radius, self.distinct)
        images = scene.make(params, z[chosen], scene.rngs["noise"])
        loss, metrics = likeness(scene, images, real, self.pixel_weight)
        used = jnp.zeros((len(z),)).at[chosen].set(1.0).sum() / b
        metrics["distance"] = distance.mean()
        metrics["distinct"] = used  # of the chosen, 1 where each image has its own
        return loss, metrics, {}
