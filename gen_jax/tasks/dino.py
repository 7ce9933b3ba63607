"""The encoder stage: a vision transformer learns from images alone.

Three terms, each with a weight: DINO between views of an image (arXiv:2104.14294), iBOT on masked
patches (arXiv:2111.07832) and KoLeo as in DINOv2 (arXiv:2304.07193). The teacher, a moving average
of the student, lies in `extra` and is what is shipped.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.data.load.views import Views
from gen_jax.encoders.dinov2 import DINOv2
from gen_jax.losses import self_distillation as terms
from gen_jax.models.projection_head import ProjectionHead
from gen_jax.tasks import towers
from gen_jax.tasks.base import Task

_PARTS = {
    "encoder": DINOv2,
    "head": ProjectionHead,
    "global_views": Views,
    "local_views": Views,
}


@dataclasses.dataclass(frozen=True)
class DINOTask(Task):
    """Trains a DINOv2 tower.

    Attributes:
      encoder: the student; the teacher has its architecture.
      head: what class tokens are compared by; masked patches have one of the same shape.
      global_views: how the two large views are drawn.
      local_views: how the small views are drawn.
      num_local: small views, which the student alone sees.
      image_size: side of the images that the data gives, in pixels.
      dino_weight: of the class tokens' self-distillation.
      ibot_weight: of the masked patches' self-distillation.
      koleo_weight: of the term that spreads the class tokens.
      mask_ratio: share of the second large view's patches that the student does not see.
      student_temperature: of the student's softmax.
      teacher_temperature: of the teacher's assignments.
      momentum: of the teacher at first; it rises to 1 as half a cosine.
      momentum_steps: updates until then.
    """

    encoder: DINOv2
    head: ProjectionHead
    global_views: Views
    local_views: Views
    num_local: int = 4
    image_size: int = 96
    dino_weight: float = 1.0
    ibot_weight: float = 1.0
    koleo_weight: float = 0.1
    mask_ratio: float = 0.4
    student_temperature: float = 0.1
    teacher_temperature: float = 0.05
    momentum: float = 0.99
    momentum_steps: int = 1000

    parts: ClassVar = {name: Part(kind) for name, kind in _PARTS.items()}
    rng_streams = ("views", "mask")

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "DINOTask":
        """Builds it from `config.task`.

        Raises:
          UserError: a key that does not exist or does not fit.
        """
        task = build(cls, towers.build_parts(config, _PARTS), "config.task")
        for name, views in (
            ("global_views", task.global_views),
            ("local_views", task.local_views),
        ):
            if (size := views.size) % task.encoder.patch_size:
                raise UserError(
                    f"config.task.{name}.size={size} must be a multiple of "
                    f"config.task.encoder.patch_size={task.encoder.patch_size}"
                )
        if task.encoder.use_mask_token != task.masks:
            raise UserError(
                f"config.task.encoder.use_mask_token={task.encoder.use_mask_token}: must be "
                f"{task.masks} with ibot_weight={task.ibot_weight} and mask_ratio={task.mask_ratio}"
            )
        return task

    @property
    def masks(self) -> bool:
        """Whether patches are masked."""
        return bool(self.ibot_weight and self.mask_ratio)

    def batch_spec(self):
        side = self.image_size
        return {"image": jax.ShapeDtypeStruct((side, side, 3), jnp.uint8)}

    def init(self, rng, batch):
        keys = jax.random.split(rng, 3)
        token = jnp.zeros((1, self.encoder.hidden_size))
        model = {"backbone": towers.first_parameters(self.encoder, keys[0])}
        if self.dino_weight:
            model["head"] = self.head.init(keys[1], token)["params"]
        if self.ibot_weight:
            model["patch_head"] = self.head.init(keys[2], token)["params"]
        extra = {"teacher": jax.tree.map(jnp.copy, model), "updates": jnp.zeros((), jnp.int32)}
        return {"model": model}, extra

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {"features": self._features}

    def components(self, variables, frozen):
        return {"encoder": (self.encoder, self.as_frozen(variables))}

    def as_frozen(self, variables) -> dict[str, Any]:
        """Parameters of the teacher's tower, as `encoders.load` gives them."""
        return variables["extra"]["teacher"]["backbone"]

    def _features(self, variables, batch, rngs, frozen):
        return towers.features(self.encoder, self.as_frozen(variables), batch["image"])

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        images, n = batch["image"], len(batch["image"])
        keys = [jax.random.fold_in(rngs["views"], i) for i in range(2 + self.num_local)]
        large = jnp.concatenate([self.global_views.draw(k, images) for k in keys[:2]])
        masked, where = self._masks(rngs["mask"], n) if self.masks else (None, None)
        student, found = self._encode(params, towers.normalised(large), masked), {}
        teacher = jax.lax.stop_gradient(extra["teacher"])
        seen = self._encode(teacher, towers.normalised(large), None)
        if self.dino_weight:
            small = [self.local_views.draw(k, images) for k in keys[2:]]
            found |= self._dino(params, teacher, seen["cls"], student["cls"], small)
        if self.ibot_weight:
            target = self._head(teacher["patch_head"], towers.at(seen["patches"][n:], where))
            said = self._head(params["patch_head"], towers.at(student["patches"][n:], where))
            target = terms.sinkhorn_knopp(target, self.teacher_temperature)
            found["ibot"] = terms.cross_entropy(target, said, self.student_temperature).mean()
        if self.koleo_weight:
            found["koleo"] = (terms.koleo(student["cls"][:n]) + terms.koleo(student["cls"][n:])) / 2
        loss = sum(getattr(self, f"{k}_weight") * found[k] for k in found if k in _WEIGHTED)
        found["feature_std"] = terms.spread(seen["cls"])
        metrics = {f"model/{k}": v for k, v in found.items()}
        return loss, (metrics, self._updated(extra, params))

    def _dino(self, params, teacher, asked, told, small):
        """Every view of the student against every other view of the teacher."""
        asked = self._head(teacher["head"], asked)
        logits = self._head(params["head"], told)
        target = terms.sinkhorn_knopp(asked, self.teacher_temperature)
        a, b = jnp.split(target, 2)
        crossed = jnp.concatenate([b, a])
        loss = terms.cross_entropy(crossed, logits, self.student_temperature).mean()
        if small:
            tokens = self._encode(params, towers.normalised(jnp.concatenate(small)), None)["cls"]
            said = self._head(params["head"], tokens)
            both = jnp.tile((a + b) / 2, (len(small), 1))
            local = terms.cross_entropy(both, said, self.student_temperature).mean()
            # Two pairs of large views, and two for each small one.
            loss = (loss + len(small) * local) / (1 + len(small))
        soft = jax.nn.softmax(asked / self.teacher_temperature)
        return {
            "dino": loss,
            "teacher_entropy": terms.entropy(target).mean(),
            "prototype_entropy": terms.entropy(soft.mean(0)),
        }

    def _encode(self, params, images, masked):
        return self.encoder.apply({"params": params["backbone"]}, images, masked)

    def _head(self, params, tokens):
        return self.head.apply({"params": params}, tokens)

    def _masks(self, key, count):
        """Which patches of both large views are masked, and which of the second, as indices."""
        side = self.global_views.size // self.encoder.patch_size
        chosen, where = towers.random_masks(key, count, side, self.mask_ratio)
        return jnp.concatenate([jnp.zeros_like(chosen), chosen]), where

    def _updated(self, extra, params):
        risen = jnp.minimum(extra["updates"] / self.momentum_steps, 1.0)
        rate = (1.0 - self.momentum) * (jnp.cos(jnp.pi * risen) + 1.0) / 2.0
        params = jax.lax.stop_gradient(params)
        teacher = jax.tree.map(lambda t, s: t + rate * (s - t), extra["teacher"], dict(params))
        return {"teacher": teacher, "updates": extra["updates"] + 1}


_WEIGHTED = ("dino", "ibot", "koleo")
