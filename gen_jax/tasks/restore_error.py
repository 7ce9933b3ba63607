"""Expected error of a trained restorer: a head that says where its images can be trusted."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gen_jax.common import pixels
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.models.error_head import ErrorHead
from gen_jax.tasks import text
from gen_jax.tasks.base import Task, upstream
from gen_jax.tasks.restore import RestoreTask

_LEAST = 0.05  # of the expected error in 8-bit units: a certain pixel must not outweigh all others
_TEXT = ("tokens", "token_mask")


@dataclasses.dataclass(frozen=True)
class RestoreErrorTask(Task):
    """Trains the head by the Laplace likelihood of the errors that the frozen restorer makes.

    Attributes:
      head: From degraded and restored image to the logarithm of the expected error.
      restorer: The restorer, whose parameters are `frozen["first_stage"]`.
      image_size: Side of the crops in pixels.
    """

    head: ErrorHead
    restorer: RestoreTask
    image_size: int

    parts: ClassVar = {"head": Part(ErrorHead)}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "RestoreErrorTask":
        """Builds it from `config.task` and a restorer ("first_stage").

        Raises:
          UserError: A key that does not exist or does not fit, or a restorer that is missing or
            does not estimate the degradation.
        """
        advice = "errors are those of a restorer; name a run of configs/restore.py"
        restorer = upstream(frozen_tasks, "first_stage", RestoreTask, advice)
        if restorer.estimator is None:
            raise UserError(
                "config.frozen.first_stage: a restorer without an estimator; name one that is "
                "conditioned on the degradation, such as configs/restore.py"
            )
        for key in ("head", "image_size"):
            if key not in config:
                raise UserError(f"config.task.{key} is missing; see configs/restore_error.py")
        head = build(ErrorHead, config["head"], "config.task.head")
        return build(cls, {**config, "head": head, "restorer": restorer}, "config.task")

    def batch_spec(self):
        side, channels = self.image_size, self.restorer.channels
        spec = {k: v for k, v in self.restorer.batch_spec().items() if k not in _TEXT}
        return {
            **spec,
            "image": jax.ShapeDtypeStruct((side, side, channels), jnp.uint8),
            "degraded": jax.ShapeDtypeStruct((side, side, channels), jnp.float32),
        }

    def init(self, rng, batch):
        x = batch["degraded"]
        return {"model": self.head.init(rng, x, x, batch["degradation"])["params"]}, {}

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {"error": self._error, "estimate": self._estimate}

    def predict_spec(self):
        spec = self.batch_spec()
        return {
            "error": {k: spec[k] for k in ("degraded", "degradation")},
            "estimate": {"degraded": spec["degraded"]},
        }

    def _restored(self, batch, frozen):
        """Returns the restorer's images without an instruction, [b, h, w, c], not clipped."""
        variables = {"params": {"model": frozen["first_stage"]["params"]}, "extra": {}}
        given = dict(batch)
        if self.restorer.text_encoder is not None:
            tokens, mask = text.empty(self.restorer.text_encoder, len(batch["degraded"]))
            given |= {"tokens": tokens, "token_mask": mask}
        return self.restorer.predict_fns()["restore"](variables, given, {}, frozen)["restored"]

    def _estimate(self, variables, batch, rngs, frozen):
        """Returns the restorer's "estimate" [b, p] of "degraded"."""
        params = {"params": {"model": frozen["first_stage"]["params"]}, "extra": {}}
        return self.restorer.predict_fns()["estimate"](params, batch, {}, frozen)

    def _scale(self, params, batch, restored):
        """Returns the expected absolute error, the mean over the channels, in 8-bit units."""
        seen = jnp.clip(restored, 0.0, 1.0)
        log_scale = self.head.apply(
            {"params": params}, batch["degraded"], seen, batch["degradation"]
        )
        return _LEAST + jnp.exp(jnp.clip(log_scale, -10.0, 6.0))

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        # As in use: conditioned on the estimates.
        batch = {**batch, "degradation": self._estimate({}, batch, {}, frozen)["estimate"]}
        batch = jax.lax.stop_gradient(batch)
        restored = jax.lax.stop_gradient(self._restored(batch, frozen))
        error = true_error(restored, pixels.to_unit(batch["image"]))
        scale = self._scale(params, batch, restored)
        loss = (jnp.log(scale) + error / scale).mean()
        return loss, ({"model/error": error.mean(), "model/expected": scale.mean()}, extra)

    def _error(self, variables, batch, rngs, frozen):
        """Expects the error of "restored", by default the restorer's image of "degraded".

        Returns:
          "error" [b, h, w, 1], the expected absolute error (mean over the channels) in 8-bit units,
          and "restored" [b, h, w, c].
        """
        restored = batch.get("restored")
        if restored is None:
            restored = self._restored(batch, frozen)
        error = self._scale(variables["params"]["model"], batch, restored)
        return {"error": error, "restored": restored}


def true_error(restored: jax.Array, clean: jax.Array) -> jax.Array:
    """Returns the absolute error, the mean over the channels, in 8-bit units: [b, h, w, 1]."""
    return 255.0 * jnp.abs(jnp.clip(restored, 0.0, 1.0) - clean).mean(-1, keepdims=True)
