"""From adjectives to pictures with a trained prior over codes."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.data import images
from gen_jax.data.load import steps
from gen_jax.data.text import art_words, tokenizer_file
from gen_jax.models import weight_storage
from gen_jax.pipelines.parts import images_in_parts
from gen_jax.pipelines.resampled import resampled
from gen_jax.runs import layout
from gen_jax.runs.reader import TrainedModel


class AdjectivesToImages:
    """A run of the stage art, ready to sample.

    Args:
      model: a run whose task is a prior over codes.
      guidance: how far logits are taken from what they are without the text, 1 for none; None for
        the run's own, as for the others.
      steps: of a masked prior.
      temperature: of the codes drawn, 0 for the likeliest.
      weights: how parameters are kept in memory, one of `models.weight_storage.KINDS`.

    Raises:
      UserError: one of them makes no sense.
    """

    def __init__(
        self,
        model: TrainedModel,
        guidance: float | None = None,
        steps: int | None = None,
        temperature: float | None = None,
        weights: str = "float32",
    ):
        self.task = resampled(model, guidance, steps, temperature).task
        self._tokenizer = tokenizer_file.load(model.path / layout.TOKENIZER)
        self.weights = weights
        self._frozen = weight_storage.stored(dict(model.frozen), weights)
        self._variables = weight_storage.stored(dict(model.variables), weights)
        self._run = jax.jit(weight_storage.reading(self.task.predict_fns()["generate"]))

    @staticmethod
    def fits(model: TrainedModel) -> bool:
        """Whether a run is one of these."""
        return hasattr(model.task, "prior") and "generate" in model.task.predict_fns()

    @property
    def settings(self) -> dict[str, Any]:
        """What a manifest says of the sampling."""
        steps = {} if self.task.prior.is_causal else {
            "num_inference_steps": self.task.num_inference_steps,
            "choice_temperature": self.task.choice_temperature,
        }  # fmt: skip
        return {
            "guidance_scale": self.task.guidance_scale,
            "temperature": self.task.temperature,
            "weights": self.weights,
            **steps,
        }

    def picture(self, path: str) -> np.ndarray:
        """The middle of a picture file, as large as the run's pictures, uint8 `[s, s, 3]`.

        Raises:
          UserError: it cannot be read, or the run has no styles.
        """
        if self.task.style is None:
            raise UserError(
                f"--like={path}: the run was trained without styles; train one with "
                "--config=configs/art.py:style, or leave it out"
            )
        try:
            pixels, _ = images.open_strict(pathlib.Path(path).read_bytes())
        except OSError as error:
            raise UserError(f"--like={path}: {error.strerror or error}; name a picture") from error
        except images.ImageError as error:
            raise UserError(f"--like={path}: {error}; name another picture") from error
        cropped = steps.center_crop(self.task.image_size)
        return cropped({"image": pixels}, np.random.default_rng(0))["image"]

    def truncated(self, texts: Sequence[str]) -> list[str]:
        """The texts that are longer than the model reads."""
        found = self._tokenizer.encode(list(texts), self.task.text_encoder.max_length)
        return [t for t, cut in zip(texts, found.truncated) if cut]

    def __call__(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        batch_size: int = 32,
        like: np.ndarray | None = None,
    ) -> np.ndarray:
        """Pictures, uint8 `[n, h, w, 3]`, each of its own prompt and seed alone.

        Args:
          prompts: texts.
          seeds: one a picture.
          batch_size: pictures at once.
          like: a picture that gives all of them its style, see `picture`; None for styles drawn
            for the prompts, where the run has styles.
        """
        found = self._tokenizer.encode(list(prompts), self.task.text_encoder.max_length)
        seeds = np.array([numbers.check_seed(seed, "seed") for seed in seeds], np.uint32)
        batch = {"tokens": found.ids, "token_mask": found.mask, "seed": seeds}
        if like is not None:
            batch["like"] = np.broadcast_to(like, (len(seeds), *like.shape))
        return images_in_parts(
            lambda part: self._run(self._variables, part, {}, self._frozen), batch, batch_size
        )


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
