"""From seeds, and sentences where it hears some, to images with a trained generator."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.data.text import tokenizer_file
from gen_jax.pipelines.generation import walk
from gen_jax.pipelines.parts import images_in_parts
from gen_jax.pipelines.resampled import MAX_GUIDANCE
from gen_jax.runs import layout
from gen_jax.runs.reader import TrainedModel


class SeedsToImages:
    """A run of the stage faces, ready to sample.

    Args:
      model: a run whose task makes pictures of latents.
      truncation: how far what steers the generator is from its mean, 1 for as far as it is.
      guidance: how far it is taken from what it is without the text, 1 for as far as it is.

    Raises:
      UserError: one of them makes no sense.
    """

    def __init__(self, model: TrainedModel, truncation: float = 1.0, guidance: float = 1.0):
        numbers.parse(truncation, "--truncation", float, 0, 2)
        numbers.parse(guidance, "--guidance", float, 0, MAX_GUIDANCE)
        self.task, self.truncation, self.guidance = model.task, truncation, guidance
        if guidance != 1.0 and self.task.generator.text != "latent":
            raise UserError(
                f"--guidance={guidance}: {model.path} has generator.text="
                f"{self.task.generator.text!r}; guidance needs text beside the latent"
            )
        self._tokenizer = None
        if self.hears_text:
            self._tokenizer = tokenizer_file.load(model.path / layout.TOKENIZER)
        self._frozen = jax.tree.map(jnp.asarray, dict(model.frozen))
        self._variables = jax.tree.map(jnp.asarray, dict(model.variables))
        self._run = jax.jit(self.task.predict_fns()["synthesize"])

    @staticmethod
    def fits(model: TrainedModel) -> bool:
        """Whether a run is one of these."""
        return "synthesize" in model.task.predict_fns()

    @property
    def settings(self) -> dict[str, Any]:
        """What a manifest says of the sampling."""
        return {"truncation": self.truncation} | (
            {"guidance_scale": self.guidance} if self.hears_text else {}
        )

    @property
    def hears_text(self) -> bool:
        """Whether prompts mean anything to it."""
        return self.task.text_encoder is not None

    def unknown_words(self, text: str) -> list[str]:
        """Returns the words of a text that have no token of their own."""
        return self._tokenizer.unknown_words(text)

    def truncated(self, texts: Sequence[str]) -> list[str]:
        """The texts that are longer than the model reads."""
        found = self._tokenizer.encode(list(texts), self.task.text_encoder.max_length)
        return [t for t, cut in zip(texts, found.truncated) if cut]

    def between(self, seeds: Sequence[int], frames: int, path: str = "slerp") -> np.ndarray:
        """Latents on the way through those of all the seeds, `[frames, z_dim]`; see `walk`."""
        return walk(np.asarray(self.task.latents(_checked(seeds))), frames, path)

    def __call__(
        self,
        seeds: Sequence[int],
        z: np.ndarray | None = None,
        batch_size: int = 64,
        prompts: Sequence[str] | None = None,
    ) -> np.ndarray:
        """Pictures, uint8 `[n, h, w, 3]`.

        Args:
          seeds: of each picture's noise, and of its latent where none is given.
          z: latents `[n, z_dim]`.
          batch_size: pictures at once.
          prompts: a text for each; empty ones where none are given.
        """
        seeds = _checked(seeds)
        batch = {"seed": seeds, "z": np.asarray(self.task.latents(seeds)) if z is None else z}
        if self.hears_text:
            texts = list(prompts or [""] * len(seeds))
            found = self._tokenizer.encode(texts, self.task.text_encoder.max_length)
            batch |= {"tokens": found.ids, "token_mask": found.mask}
        for name in ("truncation", "guidance"):
            if getattr(self, name) != 1.0:
                batch[name] = np.full(len(seeds), getattr(self, name), np.float32)
        return images_in_parts(
            lambda part: self._run(self._variables, part, {}, self._frozen), batch, batch_size
        )


def _checked(seeds: Sequence[int]) -> np.ndarray:
    return np.array([numbers.check_seed(seed, "seed") for seed in seeds], np.uint32)
