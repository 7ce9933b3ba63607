"""Settings of the restoration of a file, into its manifest and back."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gen_jax.common import names
from gen_jax.data.degradations import PARAMETERS
from gen_jax.data.photographs import reading
from gen_jax.data.photographs.sequences import Frames
from gen_jax.data.text.instruction_parser import Understood
from gen_jax.pipelines import enlarged
from gen_jax.pipelines.restore_generative import Generative
from gen_jax.pipelines.restore_inputs import Job
from gen_jax.pipelines.restore_run import GIVEN

if TYPE_CHECKING:
    from gen_jax.pipelines.restoration import Restored, Restorer

_TILES = {None: "auto", 0: "off"}
# Settings of the model itself, of one that generates.
MODEL = ("num_inference_steps", "guidance_scale")


@dataclasses.dataclass(frozen=True)
class How:
    """Settings of the restoration of each file.

    Attributes:
      prompt: Instruction; "" restores everything.
      strength: Share of the change that is applied, 0 to 1.
      scale: Whole factor to enlarge by.
      size: Width and height of the result, instead of a scale; None for those of the scale.
      given: Strengths by hand: name of `PARAMETERS` -> value in its unit.
      tile: Side of the tiles; 0 for none, None for the default.
      symmetries: Number of orientations whose results are averaged.
      generative: What a generative stage adds; None for its default.
      quality: Quality of lossy formats, 1 to 100.
      compare: Whether comparisons are written.
      manifest: Whether manifests are written.
      maps: Whether edit maps are written.
      max_pixels: Largest number of pixels of an input and of a result, all frames together.
    """

    prompt: str = ""
    strength: float | int = 1.0
    scale: int = 1
    size: tuple[int, int] | None = None
    given: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tile: int | None = None
    symmetries: int = 1
    generative: Generative | None = None
    quality: int = 95
    compare: bool = True
    manifest: bool = True
    maps: bool = False
    max_pixels: int = reading.MAX_PIXELS

    def scale_of(self, size: tuple[int, int]) -> int:
        """Returns the factor that an image of a width and height is enlarged by."""
        return self.scale if self.size is None else enlarged.scale_for(size, self.size)


def facts(
    restorer: "Restorer",
    job: Job,
    how: How,
    data: bytes,
    frames: Frames,
    restored: Frames,
    result: "Restored",
) -> dict[str, Any]:
    """Returns what a manifest says of a restoration; `how_of` reads it.

    Args:
      restorer: The model.
      job: The file and its result.
      how: Settings.
      data: The file that was restored.
      frames: Its frames.
      restored: The frames of the result.
      result: What the model estimated in the first frame.
    """
    from gen_jax.provenance import environment
    from gen_jax.runs import reader

    given = {GIVEN[name]: 100 - v if name == "jpeg" else v for name, v in how.given.items()}
    photo, model = frames.photos[0], restorer.model
    return {
        "input": names.key(str(job.source)) if job.source else None,
        "input_sha256": hashlib.sha256(data).hexdigest(),
        "output": names.key(job.out.name) if job.out else "-",
        "size": list(restored.photos[0].size),
        "frames": len(restored.photos),
        "depth": photo.depth,
        "quality": how.quality,
        "run": reader.name_of(model),
        "checkpoint_step": model.step if model.step >= 0 else None,
        "weights_sha256": model.digest,
        "frozen_weights_sha256": dict(model.frozen_digests),
        "prompt": how.prompt,
        "understood": _request(result.understood),
        "strength": how.strength,
        **_generated(restorer, how, result),
        "scale": how.scale_of(photo.size),
        "resized_to": None if how.size is None else list(how.size),
        "given": given,
        "tile": _TILES.get(how.tile, how.tile),
        "symmetries": how.symmetries,
        "estimates": {k: round(result.told[k], 4) for k in PARAMETERS if k in result.told},
        "gate": result.gate,
        "environment": environment.describe(),
    }


def how_of(manifest: Mapping[str, Any]) -> How:
    """Returns the settings that a manifest records, as far as they change pixels.

    Raises:
      KeyError: One is missing.
    """
    options = {option: name for name, option in GIVEN.items()}
    size = manifest.get("resized_to")
    is_generated = "generative" in manifest
    tiles = {text: side for side, text in _TILES.items()}
    return How(
        prompt=manifest["prompt"],
        strength=manifest["strength"],
        scale=manifest["scale"],
        size=None if size is None else tuple(size),
        given={
            options[option]: 100 - value if option == "jpeg" else value
            for option, value in manifest.get("given", {}).items()
        },
        tile=tiles.get(manifest["tile"], manifest["tile"]),
        symmetries=manifest.get("symmetries", 1),
        generative=(Generative(manifest["generative"], manifest["seed"]) if is_generated else None),
        quality=manifest["quality"],
    )


def model_settings(manifest: Mapping[str, Any]) -> dict[str, float | int]:
    """Returns the settings of a generative model that a manifest records."""
    return {name: manifest[name] for name in MODEL if name in manifest}


def _request(understood: Understood) -> dict[str, Any]:
    return {
        "summary": understood.summary,
        "remove": list(understood.remove),
        "keep": list(understood.keep),
        "amount": understood.amount,
        "notes": list(understood.notes),
    }


def _generated(restorer, how, result) -> dict[str, Any]:
    if not restorer.generates:
        return {}
    generative = how.generative or Generative()
    return {
        "generative": generative.amount,
        "seed": generative.seed,
        **restorer.model.task.sampling_settings(),
        "broken_tiles": result.num_broken,
    }
