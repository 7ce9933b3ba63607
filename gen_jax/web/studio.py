"""The only module that calls the pipeline: what page and API ask of a captioned model."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.pipelines.sampling import Request, Samples
from gen_jax.runs import reader
from gen_jax.runs.reader import TrainedModel
from gen_jax.web import images
from gen_jax.web.settings import WebSettings


@runtime_checkable
class LatentPipeline(Protocol):
    """What a pipeline offers beyond sampling, for a run whose latents can be encoded and mixed."""

    def near(self, seed: int, count: int, distance: float = 0.3) -> np.ndarray: ...
    def latents(self, seeds: Sequence[int]) -> np.ndarray: ...
    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray: ...
    def decode(self, latents: np.ndarray, seeds: Sequence[int] = ()) -> Samples: ...
    def describe(self, images: Sequence[np.ndarray]) -> Samples: ...
    def transfer(self, structure: np.ndarray, hand: np.ndarray) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of sampling that a request may change.

    They are rounded, because every new combination compiles a program.

    Attributes:
      temperature: Temperature of the caption's words in steps of 0.1; None for the run's own.
      guidance_scale: Guidance scale towards the prompt in steps of 0.5; None for the run's own.
    """

    temperature: float | None = None
    guidance_scale: float | None = None

    @property
    def rounded(self) -> dict[str, float]:
        """Returns the settings that are not the run's own, rounded."""
        values = {}
        if self.temperature is not None:
            values["temperature"] = round(round(float(self.temperature) / 0.1) * 0.1, 1)
        if self.guidance_scale is not None:
            values["guidance_scale"] = round(float(self.guidance_scale) / 0.5) * 0.5
        return values


@dataclasses.dataclass(frozen=True)
class Item:
    """A generated image with its caption.

    Attributes:
      seed: Seed that it was drawn with.
      prompt: Its prompt, or "".
      caption: Predicted caption.
      png: The image as a PNG file.
      width: Width in pixels.
      height: Height in pixels.
      settings: Settings of sampling.
      origin: How it was made if seed and prompt alone do not reproduce it, otherwise "".
    """

    seed: int
    prompt: str
    caption: str
    png: bytes
    width: int
    height: int
    settings: Mapping[str, Any]
    origin: str = ""


class Studio:
    """A captioned model as page and API use it. Its methods run in the worker of the queue.

    Args:
      pipeline: Pipeline of the run, see `gen_jax.pipelines.load`.
      settings: Sizes of batches and of the walk.

    Attributes:
      has_latents: Whether images can be encoded, described and mixed.
    """

    def __init__(self, pipeline: Any, settings: WebSettings):
        self._pipeline = pipeline
        self._settings = settings
        self._changed: collections.OrderedDict[str, Any] = collections.OrderedDict()
        self.has_latents = isinstance(pipeline, LatentPipeline)

    @property
    def facts(self) -> dict[str, Any]:
        """Returns what identifies the model: name, step and SHA-256 of its weights."""
        model = self._pipeline.model
        name = reader.name_of(model)
        # The path of a run directory must not appear on the network.
        name = name if name.startswith("package:") else model.path.name
        step = model.step if model.step >= 0 else None
        return {"name": name, "checkpoint_step": step, "digest": model.digest}

    def sampling(self, options: Options) -> dict[str, Any]:
        """Returns the settings of sampling under some options, those of the run included."""
        return {**self._pipeline.settings, **options.rounded}

    def warm_up(self) -> None:
        """Compiles the program that generates."""
        self.generate([0], "", Options())

    def generate(self, seeds: Sequence[int], prompt: str, options: Options) -> list[Item]:
        """Returns an image with its caption for each seed."""
        return self._sample(list(seeds), prompt, options)

    def between(
        self, first: int, second: int, position: int, prompt: str, options: Options
    ) -> Item:
        """Returns the image at a position on the way from one seed to another.

        Args:
          first: Seed at position 0.
          second: Seed at the last position, `settings.walk_steps` - 1.
          position: Position on the way.
          prompt: Prompt of all positions, or "".
          options: Settings of sampling.
        """
        steps = self._settings.walk_steps
        latents = self._pipeline.walk((first, second), steps)[position : position + 1]
        origin = f"{position / (steps - 1):.0%} of the way from seed {first} to seed {second}"
        return self._sample([first], prompt, options, latents, origin)[0]

    def around(self, seed: int, count: int, prompt: str, options: Options) -> list[Item]:
        """Returns variations of the image of a seed."""
        # The first one is the image of the seed itself.
        latents = self._pipeline.near(seed, count + 1)[1:]
        return self._sample([seed] * count, prompt, options, latents, f"variation of seed {seed}")

    def describe(self, image: np.ndarray) -> Item:
        """Returns an image, uint8 [h, w, 3], as the model decodes its latent, with its caption."""
        samples = self._pipeline.describe([image])
        return self._items(samples, [0], "", Options(), "reconstruction of an upload")[0]

    def restyle(self, structure: int | np.ndarray, hand: int | np.ndarray) -> Item:
        """Returns the structure of one image in the hand of another.

        Args:
          structure: A seed, or an image, uint8 [h, w, 3].
          hand: A seed, or an image, uint8 [h, w, 3].
        """
        latents = self._pipeline.transfer(self._latents(structure), self._latents(hand))
        names = [f"seed {x}" if isinstance(x, int) else "an upload" for x in (structure, hand)]
        origin = f"structure of {names[0]}, hand of {names[1]}"
        seed = structure if isinstance(structure, int) else 0
        samples = self._pipeline.decode(latents, [seed])
        return self._items(samples, [seed], "", Options(), origin)[0]

    def _latents(self, source: int | np.ndarray) -> np.ndarray:
        if isinstance(source, int):
            return self._pipeline.latents([source])
        return self._pipeline.encode([source])

    def _sample(
        self,
        seeds: list[int],
        prompt: str,
        options: Options,
        latents: np.ndarray | None = None,
        origin: str = "",
    ) -> list[Item]:
        """Samples in batches of one size and encodes the images.

        A short request is padded by copies of its first row, so that one program serves all.
        """
        size, count = self._settings.batch_size, len(seeds)
        padding = -count % size
        seeds = seeds + seeds[:1] * padding
        if latents is not None:
            latents = np.concatenate([latents, np.repeat(latents[:1], padding, 0)])
        request = Request(seeds, [prompt] * len(seeds), latents=latents)
        samples = self._with(options).sample(request, size)
        return self._items(samples, seeds[:count], prompt, options, origin)

    def _items(
        self, samples: Samples, seeds: Sequence[int], prompt: str, options: Options, origin: str
    ) -> list[Item]:
        """Returns the first images of samples as items, one per seed."""
        captions = samples.captions or ("",) * len(seeds)
        used = self.sampling(options)
        items = []
        for seed, image, caption in zip(seeds, samples.images, captions):
            height, width = image.shape[:2]
            png = images.encode(image)
            items.append(Item(int(seed), prompt, caption, png, width, height, used, origin))
        return items

    def _with(self, options: Options) -> Any:
        """Returns the pipeline with these options; the latest few are kept."""
        changes = options.rounded
        if all(self._pipeline.settings.get(name) == value for name, value in changes.items()):
            return self._pipeline
        key = json.dumps(changes, sort_keys=True)
        if key not in self._changed:
            self._changed[key] = type(self._pipeline)(self._pipeline.model, **changes)
        self._changed.move_to_end(key)
        while len(self._changed) > self._settings.settings_kept:
            self._changed.popitem(last=False)
        return self._changed[key]


def check(model: TrainedModel) -> None:
    """Raises UserError unless a run writes captions."""
    stage = model.config.get("task", {}).get("name", "another library")
    if stage != "engravings":
        raise UserError(
            f"{model.path}: is a run of {stage}, and the page is for runs that write captions; "
            "expected a run of engravings"
        )


def load(run: str, step: str = "best") -> Any:
    """Returns the pipeline of a captioned run, with its weights on the device once.

    Args:
      run: A run directory or `package:NAME`.
      step: Checkpoint: "best", "last" or a number of steps.

    Raises:
      UserError: There is no such run, or it writes no captions.
    """
    import jax
    import jax.numpy as jnp

    from gen_jax import pipelines

    model = reader.load(run, step)
    check(model)
    # Pipelines with other settings share these arrays.
    variables = jax.tree.map(jnp.asarray, dict(model.variables))
    return pipelines.load(dataclasses.replace(model, variables=variables))
