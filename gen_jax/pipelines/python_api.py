"""The Python interface: a trained model that takes and gives PIL images."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from gen_jax import pipelines
from gen_jax.common.errors import UserError
from gen_jax.parallel import compilation
from gen_jax.pipelines import requests
from gen_jax.pipelines.restoration import Restorer
from gen_jax.pipelines.sampling import Pipeline, Samples
from gen_jax.runs import reader
from gen_jax.runs.reader import TrainedModel

# Settings whose pipelines are kept: each has compiled programs of its own.
_KEPT_PIPELINES = 4


def load(source: str, step: str = "best", **settings: Any) -> "Model":
    """Reads a trained model.

    Args:
      source: A run directory, `package:NAME`, or whatever else `runs.reader.load` reads.
      step: "best", "last" or a number of training steps.
      **settings: Settings of sampling that replace the model's own, see `Model.settings`.

    Raises:
      UserError: There is no such model, it is damaged, or it has no such setting.
    """
    compilation.set_up()
    return Model(reader.load(source, step), **settings)


class Model:
    """A trained model behind the same code as the commands.

    Attributes:
      trained: The task and its weights.
    """

    def __init__(self, trained: TrainedModel, **settings: Any):
        """Checks the settings, if there are any; compiles nothing yet."""
        self.trained = trained
        self._settings = settings
        self._pipeline = functools.lru_cache(_KEPT_PIPELINES)(self._make_pipeline)
        if settings:
            self.pipeline()

    def __repr__(self) -> str:
        return f"gen_jax.load({reader.name_of(self.trained)!r})"

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of sampling by name, such as guidance_scale; empty for none."""
        return {**self.trained.task.sampling_settings(), **self._settings}

    def pipeline(self, **settings: Any) -> Pipeline:
        """Returns the pipeline behind `generate`, which works on NumPy arrays.

        Raises:
          UserError: The model does not generate images, or a setting is unknown or out of range.
        """
        values = {**self._settings, **settings}
        return self._pipeline(tuple((k, _hashable(values[k])) for k in sorted(values)))

    def generate(
        self,
        prompt: str | Sequence[str] = "",
        *,
        num: int = 1,
        seed: int = 0,
        negative_prompt: str = "",
        image: Image.Image | Sequence[Image.Image] | None = None,
        strength: float | int | None = None,
        mask: Image.Image | Sequence[Image.Image] | None = None,
        composite: bool = True,
        size: Sequence[int] | None = None,
        tile: int | None = None,
        batch_size: int = 16,
        **settings: Any,
    ) -> list[Image.Image]:
        """Generates images, or changes images (latent diffusion).

        Args:
          prompt: Prompt of all images, or several prompts; "" for an unconditional model.
          num: Images per prompt, and per image that is changed.
          seed: Seed of the first image, 0 to 2**32 - 1; the next ones count up.
          negative_prompt: Prompt that guidance leads away from (latent diffusion).
          image: Image that is changed, or several; resized to `size`, whatever its proportions.
          strength: Share of the steps that an image goes through: 0 keeps it, 1 starts from noise;
            None for 0.8, or 1 with a mask.
          mask: White where the image is repainted: one mask for all images, or one per image.
          composite: Whether pixels outside of the mask are exactly those of the image.
          size: Width and height in pixels (latent diffusion); None for those of training.
          tile: Side in pixels of the tiles in which images are encoded and decoded, 0 for none;
            None for 512 if they have more than 1024 x 1024 pixels.
          batch_size: Images per call of the network.
          **settings: Settings of sampling for this call, see `settings`.

        Returns:
          `num` RGB images per prompt, for one `image` after the other. The `info` of each has
          "seed", "prompt" and, if the model writes captions, "caption".

        Raises:
          UserError: As of `pipeline`, or a prompt or number that does not fit the model.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        pipe = self.pipeline(**settings)
        self._check_prompts(pipe, prompts)
        edits = {"image": image, "mask": mask, "strength": strength, "size": size, "tile": tile}
        self._refuse_unused(pipe, {"negative_prompt": negative_prompt or None, **edits})
        inputs = requests.Inputs(
            prompts,
            negative_prompt,
            num,
            seed,
            images=_pixels(image),
            masks=_pixels(mask),
            strength=strength,
            composite=composite,
            size=size,
            tile=tile,
        )
        request = requests.build(pipe, inputs).request
        return _as_images(pipe.sample(request, batch_size), request.seeds, request.prompts)

    def describe(self, images: Sequence[Image.Image], batch_size: int = 16) -> list[str]:
        """Returns the most likely caption of each image, of a model that writes captions.

        Raises:
          UserError: The model writes no captions.
        """
        return list(self.pipeline().describe(_pixels(images), batch_size).captions)

    def restore(
        self,
        image: Image.Image,
        prompt: str = "",
        *,
        strength: float | int = 1.0,
        scale: int = 1,
        tile: int | None = None,
    ) -> Image.Image:
        """Restores a photograph.

        Args:
          image: Any mode; gray stays gray (8 or 16 bits), opacity is kept, all else becomes RGB.
          prompt: Instruction, for a model that reads text.
          strength: Share of the change that is applied, 0 to 1.
          scale: Factor that the image is enlarged by, 1 or more.
          tile: Side of the tiles in pixels, 0 for none; None chooses.

        Returns:
          The restored image, upright. Its `info` has "degradation", the estimate that the network
          is conditioned on (name -> value), "gate", the share of the change that the model
          let pass, or None, and with a prompt "understood", what it was read as, and "notes",
          what of it has no effect.

        Raises:
          UserError: The model restores nothing, or an argument is out of its range.
        """
        colors, alpha = _split(ImageOps.exif_transpose(image))
        pixels = np.asarray(colors).reshape(colors.height, colors.width, -1)
        done = self._restorer(pixels, prompt=prompt, strength=strength, scale=scale, tile=tile)
        out = Image.fromarray(done.pixels[..., 0] if done.pixels.shape[-1] == 1 else done.pixels)
        if alpha is not None:
            out.putalpha(alpha.resize(out.size, Image.Resampling.BICUBIC))
        out.info |= {"degradation": done.told, "gate": done.gate}
        if prompt:
            understood = done.understood
            out.info |= {"understood": understood.summary, "notes": understood.notes}
        return out

    @functools.cached_property
    def _restorer(self) -> Restorer:
        return Restorer(self.trained)

    def _make_pipeline(self, settings: tuple[tuple[str, Any], ...]) -> Pipeline:
        return pipelines.load(self.trained, **dict(settings))

    def _check_prompts(self, pipe: Pipeline, prompts: list[str]) -> None:
        if pipe.needs_prompt and not all(prompts):
            raise UserError(
                f'prompt: {self.trained.path} is conditioned on text; name one such as "a cat"'
            )
        if any(prompts) and "prompts" not in pipe.options(pipe.task):
            raise UserError(f"prompt: {self.trained.path} reads no text; leave it out")

    def _refuse_unused(self, pipe: Pipeline, arguments: Mapping[str, Any]) -> None:
        options = pipe.options(pipe.task)
        # An image means something else to a model that writes captions.
        options = options if "strength" in options else options - {"image"}
        for name, value in arguments.items():
            if value is not None and name not in options:
                raise UserError(f"{name}: {self.trained.path} does not use it; leave it out")


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _pixels(images: Image.Image | Sequence[Image.Image] | None) -> list[np.ndarray]:
    """Returns the pixels of images, uint8 [h, w, 3], upright."""
    if images is None:
        return []
    images = [images] if isinstance(images, Image.Image) else images
    return [np.asarray(ImageOps.exif_transpose(x).convert("RGB")) for x in images]


def _as_images(samples: Samples, seeds: Sequence[int], prompts: Sequence[str]) -> list[Image.Image]:
    images = []
    for index, pixels in enumerate(samples.images):
        image = Image.fromarray(pixels)
        image.info |= {"seed": int(seeds[index]), "prompt": prompts[index]}
        if samples.captions:
            image.info["caption"] = samples.captions[index]
        images.append(image)
    return images


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Returns the colors of an image, L, I;16 or RGB, and its opacity, L or None."""
    if image.mode in ("L", "I;16", "RGB"):
        return image, None
    if image.mode == "1":
        return image.convert("L"), None
    if not image.has_transparency_data:
        return image.convert("RGB"), None
    is_gray = image.mode in ("LA", "La")
    with_alpha = image.convert("RGBA")
    return with_alpha.convert("L" if is_gray else "RGB"), with_alpha.getchannel("A")
