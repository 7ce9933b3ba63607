"""The stage of domain heads: small networks that read segments, changes, faces and plates."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gen_jax.common import pixels
from gen_jax.common.build import build, by_name
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.models.heads.trunk import Trunk
from gen_jax.tasks.base import Task
from gen_jax.tasks.head_objectives import HEADS
from gen_jax.tasks.head_objectives.base import HeadObjective


@dataclasses.dataclass(frozen=True)
class HeadsTask(Task):
    """Trains a trunk and one head on it.

    Attributes:
      trunk: Network from images to a pyramid of features.
      head: What is read, see `head_objectives`.
      image_size: Width of the images that the data gives, in pixels.
    """

    trunk: Trunk
    head: HeadObjective
    image_size: int = 96

    parts: ClassVar = {"trunk": Part(Trunk), "head": Part(HEADS)}
    pipeline = "heads"

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "HeadsTask":
        """Builds it from `config.task`.

        Raises:
          UserError: A key that does not exist or does not fit.
        """
        values = dict(config)
        if "head" not in values:
            raise UserError(f"config.task.head is missing: name one of {', '.join(HEADS)}")
        values["head"] = by_name(HEADS, values["head"], "config.task.head")
        values["trunk"] = build(Trunk, values.get("trunk", {}), "config.task.trunk")
        return build(cls, values, "config.task")

    def batch_spec(self):
        return {**self._inputs(), **self.head.targets(self.image_size)}

    def init(self, rng, batch):
        keys = jax.random.split(rng)
        images = [pixels.to_unit(batch[name]) for name in self.head.inputs]
        trunk = self.trunk.init(keys[0], images[0])["params"]
        pyramids = [self.trunk.apply({"params": trunk}, x) for x in images]
        head = self.head.network().init(keys[1], *pyramids)["params"]
        return {"model": {"trunk": trunk, "head": head}}, {}

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {"read": self._read}

    def predict_spec(self):
        return {"read": self._inputs()}

    def _inputs(self):
        shape = (*self.head.size(self.image_size), 3)
        return {name: jax.ShapeDtypeStruct(shape, jnp.uint8) for name in self.head.inputs}

    def _output(self, params, batch):
        variables = {"params": params["trunk"]}
        images = (pixels.to_unit(batch[name]) for name in self.head.inputs)
        pyramids = [self.trunk.apply(variables, x) for x in images]
        return self.head.network().apply({"params": params["head"]}, *pyramids)

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        loss, metrics = self.head.loss(self._output(params, batch), batch)
        return loss, ({f"model/{name}": value for name, value in metrics.items()}, extra)

    def _read(self, variables, batch, rngs, frozen):
        """Gives what `head.predict` names, of images of any size."""
        size = batch[self.head.inputs[0]].shape[1:3]
        return self.head.predict(self._output(variables["params"]["model"], batch), size)
