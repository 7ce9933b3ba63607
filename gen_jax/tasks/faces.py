"""The face stage: a progressive generator, guided by the frozen features of real images."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gen_jax.common.build import build, by_name
from gen_jax.common.errors import UserError
from gen_jax.models.progressive_generator import ProgressiveGenerator
from gen_jax.tasks import first_stage, towers
from gen_jax.tasks.feature_space import FeatureSpace
from gen_jax.tasks.objectives import OBJECTIVES

_LUMA = (0.299, 0.587, 0.114)  # BT.601
_MANY = 1024  # latents whose mean a truncated one is brought near to


@dataclasses.dataclass(frozen=True)
class FacesTask:
    """Trains a generator by one of `objectives.OBJECTIVES`.

    Attributes:
      generator: latents to images in [-1, 1].
      features: what guides it.
      objective: how.
      image_size: side of the images, the generator's own.
      fade_steps: updates over which the generator's last block sets in.
    """

    generator: ProgressiveGenerator
    features: FeatureSpace
    objective: Any
    image_size: int = 64
    fade_steps: int = 0

    rng_streams = ("z", "noise")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "FacesTask":
        """Builds it from `config.task`.

        Raises:
          UserError: a key that does not exist or does not fit.
        """
        parts = {"generator": ProgressiveGenerator, "features": FeatureSpace}
        values = towers.build_parts(config, parts)
        if "objective" not in values:
            raise UserError(f"config.task.objective is missing: {', '.join(OBJECTIVES)}")
        how = {k: tuple(v) if isinstance(v, list) else v for k, v in values["objective"].items()}
        values["objective"] = by_name(OBJECTIVES, how, "config.task.objective")
        task = build(cls, values, "config.task")
        if task.generator.resolution != task.image_size:
            raise UserError(
                f"config.task.image_size={task.image_size}: the generator's "
                f"{len(task.generator.block_out_channels)} blocks make pictures of "
                f"{task.generator.resolution} pixels; give one number of block_out_channels more "
                "for twice the size"
            )
        return task

    def towers(self) -> dict[str, str]:
        """Frozen encoders that the losses read: place in `frozen` -> "NAME:WEIGHTS"."""
        return self.features.towers()

    def batch_spec(self):
        side = self.image_size
        image = jax.ShapeDtypeStruct((side, side, 3), jnp.uint8)
        return {"image": image, **self.features.spec()}

    def init(self, rng, batch):
        keys = jax.random.split(rng, 2)
        z = jnp.zeros((1, self.generator.z_dim))
        # Keys are wanted, or the noise would have no strength to learn.
        generator = self.generator.init(keys[0], z, jax.random.split(keys[0], 1))["params"]
        scene = self._scene(batch, {}, {}, {}, {})
        model, groups, extra = self.objective.init(scene, keys[1])
        params = {"model": {"generator": generator, **model}, **groups}
        return params, {"updates": jnp.zeros((), jnp.int32), **extra}

    def losses(self):
        groups = {name: functools.partial(self._group_loss, name) for name in self.objective.groups}
        return {"model": self._model_loss, **groups}

    def predict_fns(self):
        found = {"generate": self._generate, "synthesize": self._synthesize}
        if hasattr(self.objective, "encode"):
            found["reconstruct"] = self._reconstruct
        return found

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
        real = first_stage.to_signed(batch["image"])
        if self.generator.out_channels == 1:
            real = real @ jnp.asarray(_LUMA, jnp.float32)[:, None]
        fade = self._fade(extra)

        def make(params, z, key):
            keys = jax.random.split(key, len(z))
            return self.generator.apply({"params": params}, z, keys, fade)

        return _Scene(
            self.features, self.generator.z_dim, real, batch, frozen, everything, extra, rngs, make
        )

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
        """Pictures of seeds, "seed" uint32 [b]: each of its own alone."""
        batch = {**batch, "z": self.latents(batch["seed"])}
        return self._synthesize(variables, batch, rngs, frozen)

    def _synthesize(self, variables, batch, rngs, frozen):
        """Pictures of latents "z" [b, z_dim], standard normal, with noise by "seed".

        With "truncation" [b], what steers the blocks is brought so near to its mean: 1 leaves it,
        0 is the mean (arXiv 1812.04948, appendix B).
        """
        w = self._steering(variables, batch["z"])
        if "truncation" in batch:
            many = jax.random.normal(jax.random.key(0), (_MANY, self.generator.z_dim))
            mean = self._steering(variables, many).mean(0, keepdims=True)
            w = mean + batch["truncation"][:, None] * (w - mean)
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 1))(batch["seed"])
        return {"image": self._pixels(variables, w, keys)}

    def _steering(self, variables, z):
        if hasattr(self.objective, "draw"):
            z = self.objective.draw(variables, z)
        return self._of_generator(variables, z, method="mapping")

    def _reconstruct(self, variables, batch, rngs, frozen):
        scene = self._scene(batch, {}, variables["extra"], rngs, frozen)
        params = variables["params"]["model"]
        z = self.objective.encode(scene, params, self.features.stored(batch))
        w = self._of_generator(variables, z, method="mapping")
        return {"image": self._pixels(variables, w, None)}

    def _of_generator(self, variables, *args, method):
        params = variables["params"]["model"]["generator"]
        return self.generator.apply({"params": params}, *args, method=method)

    def _pixels(self, variables, w, keys):
        fade = self._fade(variables["extra"])
        y = first_stage.to_pixels(self._of_generator(variables, w, keys, fade, method="synthesis"))
        return jnp.broadcast_to(y, (*y.shape[:3], 3))


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
