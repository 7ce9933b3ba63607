"""Sampling of faces from latents, and from sentences if the generator is conditioned on text."""

from typing import Any

import numpy as np

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.pipelines.interpolation import walk
from gen_jax.pipelines.model_changes import MAX_GUIDANCE
from gen_jax.pipelines.sampling import Pipeline, Request, checked_seeds
from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks.faces import FacesTask


class Faces(Pipeline):
    """A run of the face stage, ready to sample.

    Args:
      model: The run.
      truncation: StyleGAN truncation psi (arXiv:1812.04948): 1 is off, 0 is the mean image.
      guidance_scale: How far the mapped latent is led away from that without text, 1 for none.

    Raises:
      UserError: A setting is out of its range, or the generator cannot be guided.
    """

    predict_fn = "synthesize"

    def __init__(
        self,
        model: TrainedModel,
        truncation: float | int | None = None,
        guidance_scale: float | int | None = None,
    ):
        self.truncation = 1.0 if truncation is None else truncation
        self.guidance_scale = 1.0 if guidance_scale is None else guidance_scale
        numbers.parse(self.truncation, "truncation", float, 0, 2)
        numbers.parse(self.guidance_scale, "guidance_scale", float, 0, MAX_GUIDANCE)
        super().__init__(model)
        if self.guidance_scale != 1.0 and not self._is_guided(self.task):
            raise UserError(
                f"guidance_scale={self.guidance_scale}: {model.path} has generator.text="
                f"{self.task.generator.text!r}; guidance needs text beside the latent"
            )

    @staticmethod
    def _is_guided(task: FacesTask) -> bool:
        return task.generator.text == "latent"

    @classmethod
    def options(cls, task):
        guided = {"guidance_scale"} if cls._is_guided(task) else set()
        return super().options(task) | guided | {"truncation", "latents", "path"}

    @property
    def settings(self) -> dict[str, Any]:
        settings = {"truncation": self.truncation}
        return settings | ({"guidance_scale": self.guidance_scale} if self.is_conditional else {})

    def walk(self, seeds, count, path="slerp"):
        return walk(np.asarray(self.task.latents(checked_seeds(seeds))), count, path)

    def _batch(self, request: Request, seeds: np.ndarray) -> dict[str, np.ndarray]:
        z = np.asarray(self.task.latents(seeds)) if request.latents is None else request.latents
        batch = {**super()._batch(request, seeds), "z": z}
        for name, value in (("truncation", self.truncation), ("guidance", self.guidance_scale)):
            if value != 1.0:
                batch[name] = np.full(len(seeds), value, np.float32)
        return batch
