"""Drifting in feature space (arXiv 2602.04770): no pairs, no discriminator."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gen_jax.common.errors import UserError
from gen_jax.data.text import face_words
from gen_jax.losses.drifting import drifting
from gen_jax.tasks.feature_space import resized
from gen_jax.tasks.objectives import clusters, reading
from gen_jax.tasks.objectives.base import Objective, asked_of, fits


@dataclasses.dataclass(frozen=True)
class Drifting(Objective):
    """Generated features drift towards those of the batch's real images.

    Attributes:
      temperatures: of the field, see `losses.drifting`.
      real_per_generated: real images of the batch for each generated one: stored features cost
        nothing to compute.
      samples_per_prompt: Samples per sentence or, without sentences, per cluster. Real images of
        which the sentence is true attract them. They repel each other, and so do samples of
        sentences that specify the same attributes or more.
      num_clusters: Number of clusters of real images by their class tokens and embeddings, 0 for
        none. Each sample belongs to one, where samples repel each other and real images attract
        them. Not with sentences.
      memory_bank_size: Real images of earlier batches that attract as well; their features are kept
        in `extra`.
      pools: cells a side that a grid's means and deviations are taken over, beside each place by
        itself.
      local_weight: of the fields of single places.
      pooled_weight: of the fields of means and deviations.
      global_weight: of the fields of class tokens and embeddings.
      joint_weight: of the field of all of them and the small image as one vector: there the parts
        of a picture drift towards those of one real image, not each towards another's.
      pixel_weight: of the field of the image itself, brought to `pixel_size`.
      pixel_size: pixels.
      classifier_weight: of what `reading.reading` says of generated images, where there are
        sentences.
    """

    temperatures: Sequence[float] = (0.02, 0.05, 0.2)
    real_per_generated: int = 4
    samples_per_prompt: int = 2
    num_clusters: int = 0
    memory_bank_size: int = 0
    pools: Sequence[int] = (1, 2)
    local_weight: float = 1.0
    pooled_weight: float = 1.0
    global_weight: float = 1.0
    joint_weight: float = 1.0
    pixel_weight: float = 0.5
    pixel_size: int = 16
    classifier_weight: float = 0.0

    takes_text = True

    def init(self, scene, rng):
        """Latents of clusters, where there are some; they, and a bank, are empty at first."""
        real = self._sets(scene.features.stored(scene.batch), scene.real)
        params, found = {}, {}
        if self.num_clusters:
            if "facts" in scene.batch:
                raise UserError(
                    "config.task.objective.num_clusters: expected 0 with a text_encoder"
                )
            params["clusters"] = jax.random.normal(rng, (self.num_clusters, scene.z_dim))
            found |= clusters.empty(self.num_clusters, _rows(real).shape[-1])
        if self.memory_bank_size:
            found["bank"] = {
                kind: {
                    n: jnp.zeros((len(x), self.memory_bank_size, x.shape[-1]))
                    for n, x in sets.items()
                }
                for kind, sets in real.items()
            }
            found["bank_images"] = jnp.zeros((), jnp.int32)
            if "facts" in scene.batch:
                kinds = scene.batch["facts"].shape[-1]
                found["bank_facts"] = jnp.full(
                    (self.memory_bank_size, kinds), face_words.UNKNOWN, jnp.int8
                )
        params |= reading.init(scene, rng, self.classifier_weight)
        return params, {}, found

    def loss(self, scene, params):
        """The fields' losses, weighted, and the raw force of each kind."""
        count = max(1, len(scene.real) // self.real_per_generated)
        z = jax.random.normal(scene.rngs["z"], (count, scene.z_dim))
        prompts = self.prompts_of(scene, count)
        known, labels, changed = None, None, {}
        if self.num_clusters:
            rows = _rows(self._sets(scene.features.stored(scene.batch), scene.real))
            known = clusters.started(scene.extra, rows)
            of_real = clusters.labels_of(known, rows)
            labels = of_real[:prompts].repeat(count // prompts)
            z = z + params["clusters"][labels]
            changed = clusters.moved(known, rows, of_real)
        images = scene.make(params, z, scene.rngs["noise"], prompts)
        fake = scene.features.computed(scene.frozen, images)
        loss, metrics, more = self.of_images(scene, images, fake, prompts, known, labels)
        error, read = reading.reading(scene, params, fake, prompts, self.classifier_weight)
        return loss + error, metrics | read, {**changed, **more}

    def prompts_of(self, scene, count):
        """Sentences, or clusters, that so many samples are of; as many as samples without either.

        Raises:
          UserError: samples come out uneven, or one of them alone with nothing to repel it.
        """
        if not ("asked" in scene.batch or self.num_clusters):
            return count
        prompts = max(1, count // self.samples_per_prompt)
        if count % prompts or count == prompts:
            raise UserError(
                f"config.task.objective: {count} samples a step are no whole number of groups "
                f"of samples_per_prompt={self.samples_per_prompt}, each of two at least; change "
                "real_per_generated or config.training.batch_size"
            )
        return prompts

    def draw(self, variables, normal):
        """Latents with a cluster's added to each, where there are clusters."""
        if not self.num_clusters:
            return normal
        of = clusters.drawn(variables["extra"]["cluster_sizes"], normal)
        return normal + variables["params"]["model"]["clusters"][of]

    def of_images(self, scene, images, features, prompts=1, known=None, labels=None):
        """Their losses and forces of given generated images and their features, of the batch's
        first `prompts` sentences, or of `known` clusters by their `labels`.
        """
        real = self._sets(scene.features.stored(scene.batch), scene.real)
        asked = asked_of(scene.batch, len(images), prompts)
        # Who is asked to be all that another is, and more, is one of its kind.
        repels = None if asked is None else fits(asked, asked)
        real, attracts, there, changed = self._with_bank(scene, real, asked, len(images))
        if labels is not None:
            alike = labels[:, None] == clusters.labels_of(known, _rows(real))[None]
            attracts = alike if attracts is None else attracts & alike
            repels = labels[:, None] == labels[None]
        fake = self._sets(features, images)
        if self.joint_weight:
            both = joined(fake, real, there)
            fake["joint"], real["joint"] = ({"all": v} for v in both)
        total, metrics = 0.0, {}
        for kind, sets in fake.items():
            weight = getattr(self, f"{kind}_weight")
            if not weight or not sets:
                continue
            found = [
                drifting(x, real[kind][name], None, tuple(self.temperatures), attracts, repels)
                for name, x in sets.items()
            ]
            total += weight * sum(loss.mean() for loss, _ in found) / len(found)
            force = sum(aux["force"].mean() for _, aux in found) / len(found)
            metrics[f"force_{kind}"] = force
        metrics["force"] = sum(metrics.values()) / len(metrics)
        return total, metrics, changed

    def _with_bank(self, scene, real, asked, count):
        """The batch's real features with those of the bank, who attracts, who is there at all, and
        the bank after; None for all of them.
        """
        facts = scene.batch.get("facts")
        if not self.memory_bank_size:
            return real, None if asked is None else fits(asked, facts), None, {}
        new = jax.tree.leaves(real)[0].shape[1]
        filled = scene.extra["bank_images"]
        both = jax.tree.map(
            lambda x, kept: jnp.concatenate([x, kept], 1), real, scene.extra["bank"]
        )
        there = jnp.concatenate([jnp.ones(new, bool), jnp.arange(self.memory_bank_size) < filled])
        changed = {
            "bank": jax.tree.map(
                lambda x: jax.lax.stop_gradient(x[:, : self.memory_bank_size]), both
            ),
            "bank_images": jnp.minimum(filled + new, self.memory_bank_size),
        }
        among = jnp.broadcast_to(there[None], (count, len(there)))
        if asked is not None:
            facts = jnp.concatenate([facts, scene.extra["bank_facts"]])
            changed["bank_facts"] = facts[: self.memory_bank_size]
            among &= fits(asked, facts)
        return both, among, there, changed

    def _sets(self, features, images):
        """Kind -> name -> [s, b, c]."""
        found = {"local": {}, "pooled": {}, "global": {}, "pixel": {}}
        for name, x in features.items():
            if x.ndim == 2:
                found["global"][name] = x[None]
                continue
            b, n, _, c = x.shape
            found["local"][name] = x.reshape(b, n * n, c).swapaxes(0, 1)
            for side in (p for p in self.pools if p < n and n % p == 0):
                cells = x.reshape(b, side, n // side, side, n // side, c)
                mean = cells.mean((2, 4))
                spread = jnp.sqrt(cells.var((2, 4)) + 1e-6)
                both = jnp.concatenate([mean, spread], -1).reshape(b, side * side, 2 * c)
                found["pooled"][f"{name}_pooled_{side}"] = both.swapaxes(0, 1)
        small = resized(images, min(self.pixel_size, images.shape[1]))
        found["pixel"]["pixel"] = small.reshape(1, len(small), -1)
        return found


def _rows(real):
    """What images are sorted into clusters by, [m, d]: the whole of them where a tower says it."""
    sets = real["global"] or real["pixel"]
    return jnp.concatenate([jax.lax.stop_gradient(x[0]) for x in sets.values()], -1)


def joined(fake, real, there):
    """All features of an image as one vector, each as long as the next: [1, b, d] of either.

    `there` [m] is True at the real images that count.
    """
    rows = [], []
    for kind in ("local", "global", "pixel"):
        for name, y in real[kind].items():
            x, y = (v.swapaxes(0, 1).reshape(v.shape[1], -1) for v in (fake[kind][name], y))
            count = None if there is None else there[:, None]
            spread = jnp.var(y, 0, where=count).sum()
            scale = jax.lax.stop_gradient(jax.lax.rsqrt(spread + 1e-8))
            rows[0].append(scale * x)
            rows[1].append(scale * y)
    return tuple(jnp.concatenate(v, -1)[None] for v in rows)
