"""Text-to-image sampling by latent diffusion."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.pipelines.interpolation import walk
from gen_jax.pipelines.sampling import Pipeline, Request


class TextToImage(Pipeline):
    """A latent diffusion run, ready to sample.

    Settings: `sampler` (see `diffusion.samplers`), `num_inference_steps`, `guidance_scale` (1 for
    none), `guidance_rescale` (arXiv:2305.08891) and `guidance_interval` (arXiv:2404.07724).
    """

    has_own_seeds = True
    needs_prompt = True

    @classmethod
    def options(cls, task):
        # MeanFlow has guidance as an input of the network, away from the empty prompt alone.
        negative = set() if task.is_mean_flow else {"negative_prompt"}
        return super().options(task) | {"latents"} | negative

    @property
    def settings(self):
        settings = super().settings
        return {**settings, "guidance_interval": list(settings["guidance_interval"])}

    def noise(self, seeds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the initial noise of each seed, [n, h, w, c]."""
        shape = self.task.latent_shape
        keys = jnp.stack([jax.random.key(int(s)) for s in seeds])
        return np.asarray(jax.vmap(lambda k: jax.random.normal(k, shape))(keys))

    def walk(self, seeds, count, path="slerp"):
        return walk(self.noise(seeds), count, path)

    def _batch(self, request: Request, seeds: np.ndarray) -> dict[str, np.ndarray]:
        x_T = self.noise(seeds) if request.latents is None else request.latents
        batch = {**super()._batch(request, seeds), "x_T": x_T}
        if request.negative_prompt:
            negative = self._tokens([request.negative_prompt])
            batch["negative_tokens"] = negative["tokens"].repeat(len(seeds), 0)
            batch["negative_mask"] = negative["token_mask"].repeat(len(seeds), 0)
        return batch
