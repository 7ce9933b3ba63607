"""Sampling of images from adjectives by a prior over VQ-VAE codes."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gen_jax.data.load import steps
from gen_jax.data.text import art_words
from gen_jax.models import weight_storage
from gen_jax.pipelines import image_files
from gen_jax.pipelines.sampling import Pipeline, Request
from gen_jax.runs.reader import TrainedModel


class CodePrior(Pipeline):
    """A run of the art stage, ready to sample.

    Settings: `guidance_scale` (1 for none), `temperature` of the codes (0 for the most likely), and
    of a masked prior `num_inference_steps` and `choice_temperature`.

    Args:
      model: The run, perhaps with a guiding model or a refiner (`pipelines.model_changes`).
      weights: How parameters are kept in memory, one of `models.weight_storage.KINDS`.
      **settings: See above; None keeps the run's own.

    Raises:
      UserError: A setting is unknown or out of its range.
    """

    def __init__(self, model: TrainedModel, weights: str | None = None, **settings: Any):
        self.weights = weights or "float32"
        super().__init__(model, **settings)

    def _compile(self) -> None:
        variables, frozen = (
            weight_storage.stored(dict(tree), self.weights)
            for tree in (self.model.variables, self.model.frozen)
        )
        predict = jax.jit(weight_storage.reading(self.task.predict_fns()[self.predict_fn]))
        self._run = lambda batch: predict(variables, batch, {}, frozen)

    @classmethod
    def options(cls, task):
        style = {"style_image"} if task.style is not None else set()
        own = {"weights", "guiding_run", "guiding_scale", "refiner", "rows", "columns"}
        return super().options(task) | style | own

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "weights": self.weights}

    def notes(self, prompts: Sequence[str]) -> list[str]:
        lines = [f"the prompt {line}" for text in dict.fromkeys(prompts) for line in remarks(text)]
        return lines + self._long(prompts)

    def style_image(self, path: str) -> np.ndarray:
        """Returns the center of an image file at the size of the run's images, uint8 [s, s, 3].

        Raises:
          UserError: It cannot be read.
        """
        cropped = steps.center_crop(self.task.image_size)
        return cropped({"image": image_files.read(path)}, np.random.default_rng(0))["image"]

    def _batch(self, request: Request, seeds: np.ndarray) -> dict[str, np.ndarray]:
        batch, image = super()._batch(request, seeds), request.style_image
        if image is not None:
            batch["like"] = np.broadcast_to(image, (len(seeds), *image.shape))
        return batch


def remarks(prompt: str) -> list[str]:
    """What is odd about a prompt of adjectives, a line each: unknown words with known ones that
    look like them, negations (which no caption has), opposites side by side.
    """
    asked, unknown = art_words.parse(prompt)
    found = []
    for word, alike in unknown.items():
        if word in ("not", "no", "never", "without", "un", "non"):
            found.append(
                f"{prompt!r}: {word!r} is no word of the captions; ask for the opposite instead"
            )
            continue
        meant = art_words.meant(alike)
        found.append(f"{prompt!r}: {word!r} is no word of the captions{meant}")
    for a, b in art_words.contradictions(asked):
        found.append(f"{prompt!r}: asks for {a} and {b}, which are opposites")
    return found
