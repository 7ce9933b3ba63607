"""What a user wants to generate, as a `Request` with one entry per image."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.pipelines.sampling import Pipeline, Request


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What to generate.

    The images stand in the order of `images`, then of `prompts`, then of seeds.

    Attributes:
      prompts: Prompts, "" for the empty one.
      negative_prompt: As in `Request`.
      num: Images per prompt, and per image of `images`.
      seed: Seed of the first image; see `Pipeline.seeds`.
      passed: Seeds that an interpolation passes, which takes the place of `num` and `seed`; empty
        for none.
      frames: Images of the interpolation.
      path: Path of the interpolation, "slerp" or "lerp".
      near: Seed in whose neighborhood images are drawn, which takes the place of `seed`.
      distance: How far from it, 0 to 1.
      style_image: As in `Request`.
      images: Images that are changed, uint8 [h, w, 3].
      masks: Their masks: none, one for all, or one per image.
      strength: As in `Request`.
      composite: As in `Request`.
      size: As in `Request`.
      tile: As in `Request`.
    """

    prompts: Sequence[str] = ("",)
    negative_prompt: str = ""
    num: int = 1
    seed: int = 0
    passed: Sequence[int] = ()
    frames: int = 16
    path: str = "slerp"
    near: int | None = None
    distance: float | int = 0.3
    style_image: np.ndarray | None = None
    images: Sequence[np.ndarray] = ()
    masks: Sequence[np.ndarray] = ()
    strength: float | int | None = None
    composite: bool = True
    size: Sequence[int] | None = None
    tile: int | None = None

    def __post_init__(self):
        for name, is_given in (("mask", self.masks), ("strength", self.strength is not None)):
            if is_given and not self.images:
                raise UserError(f"{name}: expected an image that it applies to")
        if len(self.masks) not in {0, 1, len(self.images)}:
            raise UserError(
                f"mask: {len(self.masks)} masks for {len(self.images)} images; expected one for "
                "all, or one per image"
            )


class Built(NamedTuple):
    """A request, and its description for manifests and users.

    Attributes:
      request: What to generate.
      rows: Entries of the manifest of each image.
      facts: Entries of all manifests, beside the settings.
      places: Index in `Inputs.images` of the image that each result is made of; empty for none.
      notes: Lines for the user.
    """

    request: Request
    rows: list[dict[str, Any]]
    facts: dict[str, Any]
    places: list[int]
    notes: list[str]


def build(pipe: Pipeline, inputs: Inputs) -> Built:
    """Returns the request of a pipeline.

    Raises:
      UserError: The inputs do not fit the pipeline.
    """
    options, count = pipe.options(pipe.task), len(inputs.prompts)
    groups = count * max(1, len(inputs.images))
    seeds, latents, facts = _seeds(pipe, inputs, groups)
    each = len(seeds) // groups
    texts = [text for text in inputs.prompts for _ in range(each)] * (groups // count)
    rows = [{"prompt": text, "seed": seed} for text, seed in zip(texts, seeds)]
    if inputs.passed:
        for index, row in enumerate(rows):
            frame = {"frame": index % inputs.frames, "frames": inputs.frames}
            row |= {"interpolate": list(inputs.passed), **frame}
    if inputs.near is not None:
        for index, row in enumerate(rows):
            row["neighbor"] = index % inputs.num
    if "negative_prompt" in options:
        facts["negative_prompt"] = inputs.negative_prompt
    fields: dict[str, Any] = {"size": inputs.size, "tile": inputs.tile}
    facts |= {name: value for name, value in fields.items() if value is not None}
    places, notes = [], []
    if "size" in options:
        notes = pipe.size_notes(inputs.size, inputs.images)
    if inputs.images:
        places = [index for index in range(len(inputs.images)) for _ in range(count * each)]
        known, strength = _edited(pipe, inputs, places)
        fields |= known
        facts["strength"] = strength
        if inputs.masks:
            facts["composite"] = inputs.composite
    request = Request(seeds, texts, inputs.negative_prompt, latents, inputs.style_image, **fields)
    return Built(request, rows, facts, places, notes)


def _seeds(
    pipe: Pipeline, inputs: Inputs, groups: int
) -> tuple[list[int], np.ndarray | None, dict[str, Any]]:
    """Returns the seed of each image, latents if they are not the seeds', and facts."""
    if inputs.passed:
        size = {} if inputs.size is None else {"size": inputs.size}
        frames = pipe.walk(inputs.passed, inputs.frames, inputs.path, **size)
        facts = {"path": inputs.path} if "path" in pipe.options(pipe.task) else {}
        # One noise for all frames: the latent alone changes.
        seeds = [inputs.passed[0]] * (inputs.frames * groups)
        return seeds, np.concatenate([frames] * groups), facts
    if inputs.near is not None:
        latents = np.concatenate([pipe.near(inputs.near, inputs.num, inputs.distance)] * groups)
        facts = {"near": inputs.near, "distance": inputs.distance}
        return [inputs.near] * len(latents), latents, facts
    return pipe.seeds(inputs.seed, inputs.num, groups), None, {}


def _edited(pipe: Pipeline, inputs: Inputs, places: Sequence[int]) -> tuple[dict[str, Any], float]:
    """Returns the fields of a request about images, and the strength."""
    masks = list(inputs.masks)
    if len(masks) == 1:
        masks = masks * len(inputs.images)
    strength = pipe.checked_strength(inputs.strength, bool(masks))
    fields = {
        "images": [inputs.images[place] for place in places],
        "masks": [masks[place] for place in places] if masks else [],
        "strength": strength,
        "composite": inputs.composite,
    }
    return fields, strength
