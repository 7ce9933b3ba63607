"""The face stage: a progressive generator, guided by the frozen features of real images.

With a text encoder it hears sentences: each states some facts of a face (`data.face_words`), and
real images of which the same is true guide what is made of it.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common import pixels
from gen_jax.common.build import build, by_name
from gen_jax.common.color import BT601_LUMA
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.data.text import face_words
from gen_jax.diffusion import guidance
from gen_jax.models.progressive_generator import ProgressiveGenerator
from gen_jax.tasks import first_stage, text, towers
from gen_jax.tasks.base import SEED, Task
from gen_jax.tasks.feature_space import FeatureSpace
from gen_jax.tasks.objectives import OBJECTIVES
from gen_jax.tasks.objectives.base import Objective
from gen_jax.tasks.perceptual import PerceptualTerm, make_term

_MANY = 1024  # latents whose mean a truncated one is brought near to
_MANY_HEARD = 128  # the same for each text


@dataclasses.dataclass(frozen=True)
class FacesTask(Task):
    """Trains a generator by one of `objectives.OBJECTIVES`.

    Attributes:
      generator: latents to images in [-1, 1].
      features: what guides it.
      objective: how.
      image_size: side of the images, the generator's own.
      fade_steps: updates over which the generator's last block sets in.
      perceptual: the perceptual term of pictures that are made for a real one, by name and encoder
        in the config.
      perceptual_weight: its weight, 0 for none.
      text_encoder: Encoder of sentences, for a generator that is conditioned on text.
      text_dropout_prob: Probability that a sentence is replaced by the empty one in training, so
        that the generator is also trained unconditionally.
    """

    generator: ProgressiveGenerator
    features: FeatureSpace
    objective: Objective
    image_size: int = 64
    fade_steps: int = 0
    perceptual: PerceptualTerm | None = None
    perceptual_weight: float = 0.0
    text_encoder: nn.Module | text.FrozenText | None = None
    text_dropout_prob: float = 0.1

    parts: ClassVar = {
        "generator": Part(ProgressiveGenerator),
        "features": Part(FeatureSpace),
        "objective": Part(OBJECTIVES),
        "text_encoder": Part(text.CONFIGS),
    }
    rng_streams = ("z", "noise", "drop_text", "reading")
    pipeline = "faces"

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "FacesTask":
        """Builds it from `config.task`.

        Args:
          config: its values.
          frozen_tasks: a frozen text tower as "text", where one is named.

        Raises:
          UserError: a key that does not exist or does not fit.
        """
        parts = {"generator": ProgressiveGenerator, "features": FeatureSpace}
        values = towers.build_parts(config, parts)
        if "objective" not in values:
            raise UserError(f"config.task.objective is missing: {', '.join(OBJECTIVES)}")
        values["objective"] = by_name(OBJECTIVES, values["objective"], "config.task.objective")
        term, encoder = values.pop("perceptual", ""), values.pop("perceptual_encoder", "")
        if values.get("perceptual_weight"):
            values["perceptual"] = make_term(term, encoder)
        if "text_encoder" in values:
            values["text_encoder"] = text.build_text_encoder(
                values["text_encoder"], frozen_tasks or {}
            )
        task = build(cls, values, "config.task")
        task._check()
        return task

    def _check(self) -> None:
        if self.generator.resolution != self.image_size:
            raise UserError(
                f"config.task.image_size={self.image_size}: the generator's "
                f"{len(self.generator.block_out_channels)} blocks make pictures of "
                f"{self.generator.resolution} pixels; give one number of block_out_channels more "
                "for twice the size"
            )
        if self.perceptual_weight and not self.objective.has_pairs:
            raise UserError(
                f"config.task.perceptual_weight={self.perceptual_weight}: only paired and imle "
                "make a picture for a real one that it can be compared with; set it to 0"
            )
        if bool(self.generator.text) != (self.text_encoder is not None):
            raise UserError(
                "config.task.text_encoder goes with generator.text of latent or cross: give both "
                "or none"
            )
        if self.text_encoder is not None and not self.objective.takes_text:
            raise UserError(
                "config.task.objective: with a text_encoder expected drifting, or adversarial with "
                "discriminator=patch"
            )

    def frozen_encoders(self):
        perceptual = self.perceptual.frozen_encoders() if self.perceptual_weight else {}
        return {**self.features.frozen_encoders(), **perceptual}

    @property
    def feature_space(self) -> FeatureSpace:
        """Features of real images that the generator is trained against."""
        return self.features

    def batch_spec(self):
        side = self.image_size
        image = jax.ShapeDtypeStruct((side, side, 3), jnp.uint8)
        spec = {"image": image, **self.features.spec()}
        if self.text_encoder is not None:
            length, facts = (self.text_encoder.max_length,), (len(face_words.ATTRIBUTES),)
            spec["tokens"] = jax.ShapeDtypeStruct(length, jnp.int32)
            spec["token_mask"] = jax.ShapeDtypeStruct(length, jnp.bool_)
            spec |= {k: jax.ShapeDtypeStruct(facts, jnp.int8) for k in ("asked", "facts")}
        return spec

    def init(self, rng, batch):
        keys = jax.random.split(rng, 3)
        z, heard, told = jnp.zeros((1, self.generator.z_dim)), None, {}
        if self.text_encoder is not None:
            tokens, mask = batch["tokens"][:1], batch["token_mask"][:1]
            told = text.init(self.text_encoder, keys[2], tokens, mask)
            heard = (jnp.zeros((*tokens.shape, self.text_encoder.hidden_size)), mask)
        # Keys are wanted, or the noise would have no strength to learn.
        noise = jax.random.split(keys[0], 1)
        generator = self.generator.init(keys[0], z, noise, 1.0, heard)["params"]
        scene = self._scene(batch, {}, {}, {}, {})
        model, groups, extra = self.objective.init(scene, keys[1])
        params = {"model": {"generator": generator, **told, **model}, **groups}
        return params, {"updates": jnp.zeros((), jnp.int32), **extra}

    def losses(self):
        groups = {name: functools.partial(self._group_loss, name) for name in self.objective.groups}
        return {"model": self._model_loss, **groups}

    def predict_fns(self):
        found = {"generate": self._generate, "synthesize": self._synthesize}
        if self.objective.has_encoder:
            found["reconstruct"] = self._reconstruct
        return found

    def predict_spec(self):
        spec = self.batch_spec()
        seeded = {"seed": SEED, **{k: spec[k] for k in ("tokens", "token_mask") if k in spec}}
        latent = {"z": jax.ShapeDtypeStruct((self.generator.z_dim,), jnp.float32)}
        specs = {"generate": seeded, "synthesize": {**seeded, **latent}, "reconstruct": spec}
        return {name: specs[name] for name in self.predict_fns()}

    def _model_loss(self, params, everything, extra, batch, rngs, frozen):
        scene = self._scene(batch, everything, extra, rngs, frozen)
        loss, metrics, changed = self.objective.loss(scene, params)
        extra = {**extra, **changed, "updates": extra["updates"] + 1}
        return loss, ({f"model/{k}": v for k, v in metrics.items()}, extra)

    def _group_loss(self, name, params, everything, extra, batch, rngs, frozen):
        scene = self._scene(batch, everything, extra, rngs, frozen)
        loss, metrics = self.objective.loss_of_group(name, scene, params)
        return loss, ({f"{name}/{k}": v for k, v in metrics.items()}, extra)

    def _scene(self, batch, everything, extra, rngs, frozen):
        real = pixels.to_signed(batch["image"])
        if self.generator.out_channels == 1:
            real = real @ jnp.asarray(BT601_LUMA, jnp.float32)[:, None]
        fade, batch = self._fade(extra), self._with_dropped_text(batch, rngs)

        def make(params, z, key, prompts=None):
            keys = jax.random.split(key, len(z))
            heard = self._heard(params, batch, frozen, prompts or len(z))
            if heard is not None:
                heard = jax.tree.map(lambda v: v.repeat(len(z) // len(v), 0), heard)
            return self.generator.apply({"params": params["generator"]}, z, keys, fade, heard)

        def unlike(images):
            x, y = (jnp.broadcast_to(v, (*v.shape[:3], 3)) for v in (real, images))
            return self.perceptual_weight * self.perceptual(x, y, frozen)

        return _Scene(
            self.features,
            self.generator.z_dim,
            real,
            batch,
            frozen,
            everything,
            extra,
            rngs,
            make,
            unlike if self.perceptual_weight else None,
        )

    def _with_dropped_text(self, batch, rngs):
        """The batch with some of its sentences empty, which ask for nothing."""
        if self.text_encoder is None or "drop_text" not in rngs:
            return batch
        count = len(batch["tokens"])
        dropped = jax.random.bernoulli(rngs["drop_text"], self.text_dropout_prob, (count, 1))
        tokens, mask = text.empty(self.text_encoder, count)
        unasked = jnp.full_like(batch["asked"], face_words.UNKNOWN)
        new = {"tokens": tokens, "token_mask": mask, "asked": unasked}
        return {**batch, **{k: jnp.where(dropped, v, batch[k]) for k, v in new.items()}}

    def _heard(self, params, batch, frozen, count):
        """States and mask of the batch's first sentences; of empty ones where it has none."""
        if self.text_encoder is None:
            return None
        tokens, mask = (
            (batch["tokens"][:count], batch["token_mask"][:count])
            if "tokens" in batch
            else text.empty(self.text_encoder, count)
        )
        states, seen = text.encode(self.text_encoder, params, frozen, tokens, mask)
        return states, jnp.ones_like(mask) if seen is None else seen

    def latents(self, seeds: Any) -> jax.Array:
        """Standard normal latents [b, z_dim] of seeds, each of its own alone."""

        def one(seed):
            key = jax.random.fold_in(jax.random.key(seed), 0)
            return jax.random.normal(key, (self.generator.z_dim,))

        return jax.vmap(one)(jnp.asarray(seeds, jnp.uint32))

    def _fade(self, extra):
        if not self.fade_steps or not extra:
            return 1.0
        return jnp.minimum(1.0, extra["updates"] / self.fade_steps)

    def _generate(self, variables, batch, rngs, frozen):
        """Pictures of seeds, "seed" uint32 [b], each of its own alone, and of their texts."""
        batch = {**batch, "z": self.latents(batch["seed"])}
        return self._synthesize(variables, batch, rngs, frozen)

    def _synthesize(self, variables, batch, rngs, frozen):
        """Pictures of latents "z" [b, z_dim], standard normal, with noise by "seed", and of
        sentences, "tokens" and "token_mask", where the generator hears any: empty ones without.

        With "truncation" [b], what steers the blocks is brought so near to its mean: 1 leaves it,
        0 is the mean (arXiv 1812.04948, appendix B). With "guidance" [b] it is taken so far from
        what it is without the text: 1 leaves it.
        """
        params, count = variables["params"]["model"], len(batch["z"])
        heard = self._heard(params, batch, frozen, count)
        w = self._steering(variables, batch["z"], heard)
        if "guidance" in batch:
            unheard = self._steering(variables, batch["z"], self._heard(params, {}, frozen, count))
            w = guidance.combine(w, unheard, batch["guidance"])
        if "truncation" in batch:
            mean = self._mean_steering(variables, heard)
            w = mean + batch["truncation"][:, None] * (w - mean)
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 1))(batch["seed"])
        return self._images(variables, w, keys, heard)

    def _mean_steering(self, variables, heard):
        """[1, w] over latents; of each text by itself, [b, w]."""
        if heard is None:
            z = jax.random.normal(jax.random.key(0), (_MANY, self.generator.z_dim))
            return self._steering(variables, z).mean(0, keepdims=True)
        z = jax.random.normal(jax.random.key(0), (_MANY_HEARD, self.generator.z_dim))
        texts = len(heard[0])

        def with_all(one):
            return self._steering(variables, jnp.broadcast_to(one[None], (texts, len(one))), heard)

        return jax.vmap(with_all)(z).mean(0)

    def _steering(self, variables, z, heard=None):
        z = self.objective.draw(variables, z)
        return self._of_generator(variables, z, heard, method="mapping")

    def _reconstruct(self, variables, batch, rngs, frozen):
        scene = self._scene(batch, {}, variables["extra"], rngs, frozen)
        params = variables["params"]["model"]
        z = self.objective.encode(scene, params, self.features.stored(batch))
        w = self._of_generator(variables, z, method="mapping")
        return self._images(variables, w, None)

    def _of_generator(self, variables, *args, method):
        params = variables["params"]["model"]["generator"]
        return self.generator.apply({"params": params}, *args, method=method)

    def _images(self, variables, w, keys, heard=None):
        fade = self._fade(variables["extra"])
        found = self._of_generator(variables, w, keys, fade, heard, method="synthesis")
        return first_stage.to_images(jnp.broadcast_to(found, (*found.shape[:3], 3)))


@dataclasses.dataclass(frozen=True)
class _Scene:
    """See `objectives.base.Scene`."""

    features: FeatureSpace
    z_dim: int
    real: Any
    batch: Mapping[str, Any]
    frozen: Mapping[str, Any]
    everything: Mapping[str, Any]
    extra: Mapping[str, Any]
    rngs: Mapping[str, Any]
    make: Callable[..., Any]
    unlike: Callable[..., Any] | None
