"""From seeds to images with a trained generator that hears no text."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.pipelines.generation import slerp
from gen_jax.runs.reader import TrainedModel


class SeedsToImages:
    """A run of the stage faces, ready to sample.

    Args:
      model: a run whose task makes pictures of latents.
      truncation: how far what steers the generator is from its mean, 1 for as far as it is.

    Raises:
      UserError: the run makes none, or the truncation makes no sense.
    """

    def __init__(self, model: TrainedModel, truncation: float = 1.0):
        if not 0.0 <= truncation <= 2.0:
            raise UserError(f"--truncation={truncation}: expected 0 to 2, 1 for none")
        self.task, self.truncation = model.task, truncation
        self._variables = jax.tree.map(jnp.asarray, dict(model.variables))
        self._run = jax.jit(self.task.predict_fns()["synthesize"])

    @staticmethod
    def fits(model: TrainedModel) -> bool:
        """Whether a run is one of these."""
        return "synthesize" in model.task.predict_fns()

    @property
    def settings(self) -> dict[str, Any]:
        """What a manifest says of the sampling."""
        return {"truncation": self.truncation}

    def between(self, seeds: tuple[int, int], frames: int, path: str = "slerp") -> np.ndarray:
        """Latents from one seed's to the other's, `[frames, z_dim]`.

        Raises:
          UserError: `path` is neither "slerp" nor "lerp".
        """
        a, b = np.asarray(self.task.latents(np.array(seeds, np.uint32)))
        if path == "slerp":
            return slerp(a, b, frames)
        if path != "lerp":
            raise UserError(f"--path={path}: expected slerp or lerp")
        return np.stack([(1 - t) * a + t * b for t in np.linspace(0, 1, frames)]).astype(np.float32)

    def __call__(
        self, seeds: Sequence[int], z: np.ndarray | None = None, batch_size: int = 64
    ) -> np.ndarray:
        """Pictures, uint8 `[n, h, w, 3]`.

        Args:
          seeds: of each picture's noise, and of its latent where none is given.
          z: latents `[n, z_dim]`.
          batch_size: pictures at once.
        """
        seeds = np.asarray(seeds, np.uint32)
        z = np.asarray(self.task.latents(seeds)) if z is None else z
        size, images = min(batch_size, len(seeds)), []
        for start in range(0, len(seeds), size):
            part = {"seed": seeds[start : start + size], "z": z[start : start + size]}
            missing = size - len(part["seed"])
            part = {k: np.concatenate([v, v[:1].repeat(missing, 0)]) for k, v in part.items()}
            if self.truncation != 1.0:
                part["truncation"] = np.full(size, self.truncation, np.float32)
            out = self._run(self._variables, part, {}, {})["image"]
            images.append(np.asarray(out)[: size - missing])
        return np.concatenate(images)
