"""Sampling from any stage whose "generate" reads seeds and perhaps prompts."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from gen_jax.common import batching, numbers
from gen_jax.common.errors import UserError
from gen_jax.pipelines.model_changes import resampled
from gen_jax.pipelines.prompts import short, unknown_words
from gen_jax.runs.reader import TrainedModel
from gen_jax.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class Request:
    """What to generate, one entry per image.

    Attributes:
      seeds: Seed of each image, 0 to 2**32 - 1. An image depends on its seed, prompt and settings
        alone, however many are generated at once.
      prompts: Prompt of each image; empty for an unconditional stage, or for empty prompts.
      negative_prompt: What guidance leads away from, "" for the empty prompt.
      latents: Latents [n, ...] that take the place of those of the seeds; see `Pipeline.walk`.
      style_image: Reference image for the global style latent, uint8 [h, w, 3], or None.
      images: Images that are changed (latent diffusion), uint8 [h, w, 3]; rows may be one array.
        They are resized to the sampling size, whatever their proportions.
      masks: White where an image is repainted, uint8 [h, w] or [h, w, 3]; empty for everywhere.
      strength: Share of the steps that an image takes: 0 leaves it as the autoencoder has it, 1
        ignores it but for the mask; None for 0.8, or 1 with masks.
      composite: Whether pixels outside of a mask are those of the image itself.
      size: Width and height in pixels (latent diffusion); None for those of training.
      tile: Side in pixels of the tiles in which images are encoded and decoded, 0 for none; None
        for 512 if they have more than 1024 x 1024 pixels.
    """

    seeds: Sequence[int]
    prompts: Sequence[str] = ()
    negative_prompt: str = ""
    latents: np.ndarray | None = None
    style_image: np.ndarray | None = None
    images: Sequence[np.ndarray] = ()
    masks: Sequence[np.ndarray] = ()
    strength: float | int | None = None
    composite: bool = True
    size: Sequence[int] | None = None
    tile: int | None = None


class Samples(NamedTuple):
    """Generated images.

    Attributes:
      images: uint8 [n, h, w, 3].
      captions: What each image shows, of a stage that writes captions; otherwise empty.
    """

    images: np.ndarray
    captions: tuple[str, ...] = ()


class Pipeline:
    """A trained model, ready to sample.

    Args:
      model: A run whose task has "generate".
      **settings: New values of `Task.sampling_settings`; None keeps the run's own.

    Attributes:
      has_own_seeds: Whether each of several prompts counts its seeds on from the one before.
      needs_prompt: Whether an empty list of prompts is a mistake.
      task: The task with the new settings.

    Raises:
      UserError: The run generates nothing, or a setting is unknown or out of its range.
    """

    predict_fn: ClassVar[str] = "generate"
    has_own_seeds: ClassVar[bool] = False
    needs_prompt: ClassVar[bool] = False

    def __init__(self, model: TrainedModel, **settings: Any):
        self.model = resampled(model, **settings)
        self.task = self.model.task
        self._tokenizer = None
        if self.is_conditional:
            self._tokenizer = model.tokenizer()
        self._compile()

    def _compile(self) -> None:
        # On a CPU the weights stay where they are: `device_put` copies what is not aligned.
        variables = jax.device_put(dict(self.model.variables))
        frozen = jax.device_put(dict(self.model.frozen))
        predict = jax.jit(self.task.predict_fns()[self.predict_fn])
        self._run = lambda batch: predict(variables, batch, {}, frozen)

    @classmethod
    def options(cls, task: Task) -> frozenset[str]:
        """Returns what can be asked of a run: its sampling settings and fields of `Request`."""
        text = {"prompts"} if task.text_encoder is not None else set()
        return frozenset({*task.sampling_settings(), *text})

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of sampling for a manifest."""
        return dict(self.task.sampling_settings())

    @property
    def is_conditional(self) -> bool:
        """Returns whether the model is conditioned on prompts."""
        return self.task.text_encoder is not None

    def notes(self, prompts: Sequence[str]) -> list[str]:
        """Returns a line for each prompt that the model cannot read as it stands."""
        lines = []
        for prompt in dict.fromkeys(prompts) if self.is_conditional else ():
            if note := unknown_words(self._tokenizer, prompt):
                lines.append(note)
        return lines + self._long(prompts)

    def _long(self, prompts: Sequence[str]) -> list[str]:
        prompts = list(dict.fromkeys(prompts))
        if not self.is_conditional or not prompts:
            return []
        length = self.task.text_encoder.max_length
        encoded = self._tokenizer.encode(prompts, length)
        return [
            f"the prompt {short(prompt)} is longer than the {length} tokens that the model reads; "
            "the rest is ignored"
            for prompt, is_cut in zip(prompts, encoded.truncated)
            if is_cut
        ]

    def walk(self, seeds: Sequence[int], count: int, path: str = "slerp") -> np.ndarray:
        """Returns `count` latents on the way through those of the seeds, for `Request.latents`.

        Raises:
          UserError: The stage has no latents to walk through.
        """
        raise UserError(f"{self.model.path}: this kind of run has no latents to interpolate")

    def describe(self, images: Sequence[np.ndarray], batch_size: int = 16) -> Samples:
        """Returns what images [h, w, 3] decode to from their latents, and their captions.

        Raises:
          UserError: The stage writes no captions.
        """
        raise UserError(
            f"{self.model.path}: writes no captions; name a run of configs/engravings.py, or "
            "package:engravings"
        )

    def seeds(self, first: int, count: int, num_prompts: int = 1) -> list[int]:
        """Returns the seed of each image.

        Args:
          first: Seed of the first image.
          count: Images per prompt.
          num_prompts: Number of prompts, whose images stand one after the other.

        Raises:
          UserError: A seed is out of its range.
        """
        in_a_row = count * num_prompts if self.has_own_seeds else count
        first = numbers.check_seed(first, "seed", in_a_row)
        if self.has_own_seeds:
            return [first + i for i in range(count * num_prompts)]
        return [first + i for i in range(count)] * num_prompts

    def __call__(self, request: Request, batch_size: int = 16) -> np.ndarray:
        """Generates images.

        Args:
          request: What to generate.
          batch_size: Images at once.

        Returns:
          uint8 [n, h, w, 3].
        """
        return self.sample(request, batch_size).images

    def sample(self, request: Request, batch_size: int = 16) -> Samples:
        """Generates images, with captions if the stage writes any; arguments as of a call."""
        batch = self._batch(request, checked_seeds(request.seeds))
        outputs = generate_in_batches(self._run, batch, batch_size)
        captions = (self._tokenizer.decode(ids).strip() for ids in outputs.get("caption", ()))
        return Samples(outputs["image"], tuple(captions))

    def _batch(self, request: Request, seeds: np.ndarray) -> dict[str, np.ndarray]:
        prompts = list(request.prompts) or [""] * len(seeds)
        return {"seed": seeds, **self._tokens(prompts)}

    def _tokens(self, prompts: Sequence[str]) -> Mapping[str, np.ndarray]:
        if not self.is_conditional:
            return {}
        encoded = self._tokenizer.encode(list(prompts), self.task.text_encoder.max_length)
        return {"tokens": encoded.ids, "token_mask": encoded.mask}


def generate_in_batches(
    run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
    batch: Mapping[str, np.ndarray],
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Generates images in parts of at most `batch_size` rows.

    Args:
      run: Returns "image", uint8 `[b, h, w, 3]`, "finite", bool `[b]`, and perhaps more.
      batch: Arrays `[n, ...]`, among them the "seed" of each image.
      batch_size: Images per call.

    Returns:
      What `run` returns, of all rows.

    Raises:
      UserError: An image is not finite. Its pixels would be black.
    """
    parts = []
    for padded, count in batching.split(batch, batch_size):
        out = run(padded)
        if not (finite := np.asarray(out["finite"])).all():
            seed = padded["seed"][np.argmin(finite)]
            raise UserError(
                f"the image of seed {seed} is not finite (NaN or Inf): lower the guidance scale, "
                "or check the weights of the run"
            )
        parts.append({key: np.asarray(value)[:count] for key, value in out.items()})
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def checked_seeds(seeds: Sequence[int]) -> np.ndarray:
    """Returns seeds as uint32 [n]; raises UserError unless each is from 0 to 2**32 - 1."""
    return np.array([numbers.check_seed(seed, "seed") for seed in seeds], np.uint32)
