"""The Python interface: a trained model that takes and gives PIL images."""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from gen_jax import pipelines
from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.data.images import to_rgb
from gen_jax.data.photographs import jpeg_tables
from gen_jax.parallel import compilation
from gen_jax.pipelines import requests
from gen_jax.pipelines.restoration import Restorer
from gen_jax.pipelines.restore_generative import Generative
from gen_jax.pipelines.restore_run import given_of
from gen_jax.pipelines.sampling import Pipeline, Samples
from gen_jax.runs import manifest, reader
from gen_jax.runs.reader import TrainedModel

# Settings whose pipelines are kept: each has compiled programs of its own.
_KEPT_PIPELINES = 4


def load(source: str | os.PathLike, step: str = "best", **settings: Any) -> "Model":
    """Reads a trained model.

    Args:
      source: A run directory, `package:NAME`, or whatever else `runs.reader.load` reads.
      step: "best", "last" or a number of training steps.
      **settings: Settings of sampling that replace the model's own, see `Model.settings`.

    Raises:
      UserError: There is no such model, it is damaged, or it has no such setting.
    """
    compilation.set_up()
    return Model(reader.load(os.fspath(source), step), **settings)


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
        prompt: str | Sequence[str] | None = None,
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

        Prints a note on standard error for whatever in the arguments may surprise, such as a prompt
        that is longer than what the model reads.

        Args:
          prompt: Prompt of all images, or several prompts; "" is the empty prompt. None, the
            default, is for models that need none.
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
        num, batch_size = (
            numbers.parse(value, name, int, 1)
            for value, name in ((num, "num"), (batch_size, "batch_size"))
        )
        seed = numbers.check_seed(seed, "seed")
        tile = tile if tile is None else numbers.parse(tile, "tile", int, 0)
        pipe = self.pipeline(**settings)
        prompts = self._prompts(pipe, prompt)
        edits = {"image": image, "mask": mask, "strength": strength, "size": size, "tile": tile}
        self._refuse_unused(pipe, {"negative_prompt": negative_prompt or None, **edits})
        _check_texts([negative_prompt or ""], "negative_prompt")
        inputs = requests.Inputs(
            prompts,
            negative_prompt or "",
            num,
            seed,
            images=_pixels(image, "image"),
            masks=_pixels(mask, "mask"),
            strength=strength,
            composite=composite,
            size=size,
            tile=tile,
        )
        request, *_, notes = requests.build(pipe, inputs)
        for line in (*pipe.notes([*prompts, negative_prompt or ""]), *notes):
            manifest.note(line)
        return _as_images(pipe.sample(request, batch_size), request.seeds, request.prompts)

    def describe(self, images: Sequence[Image.Image], batch_size: int = 16) -> list[str]:
        """Returns the most likely caption of each image, of a model that writes captions.

        Raises:
          UserError: The model writes no captions.
        """
        batch_size = numbers.parse(batch_size, "batch_size", int, 1)
        pipe = self.pipeline()
        return list(pipe.describe(_pixels(images, "images"), batch_size).captions)

    def restore(
        self,
        image: Image.Image,
        prompt: str = "",
        *,
        strength: float | int = 1.0,
        scale: int = 1,
        tile: int | None = None,
        noise: float | int | None = None,
        blur: float | int | None = None,
        jpeg: float | int | None = None,
        symmetries: int = 1,
        generative: float | int | None = None,
        seed: int = 0,
    ) -> Image.Image:
        """Restores a photograph.

        Args:
          image: Any mode but F; gray stays gray (8 or 16 bits), opacity is kept, all else becomes
            RGB.
          prompt: Instruction, for a model that reads text.
          strength: Share of the change that is applied, 0 to 1.
          scale: Factor that the image is enlarged by, 1 or more.
          tile: Side of the tiles in pixels, 0 for none; None chooses.
          noise: Standard deviation of the noise, of 255 levels, in place of the estimate.
          blur: Standard deviation of the blur in pixels, in place of the estimate.
          jpeg: JPEG quality of the image, 1 to 100, in place of the estimate. An image that was
            opened from a JPEG file states the quality that it was last saved at, which bounds the
            estimate.
          symmetries: Number of orientations whose results are averaged: 1, 2, 4 or 8.
          generative: Share of the generated detail, 0 to 1, of a model that generates; None for 1.
          seed: Seed of the generated detail, 0 to 2**32 - 1.

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
        ranges = {"noise": (noise, 0, 150), "blur": (blur, 0, 8), "jpeg": (jpeg, 1, 100)}
        for name, (value, low, high) in ranges.items():
            if value is not None:
                numbers.parse(value, name, float, low, high)
        least = {}
        if isinstance(image, JpegImageFile) and scale == 1:
            quality = jpeg_tables.quality_of(image.quantization)
            least = {} if quality is None else {"jpeg": 100.0 - quality}
        drawn = None
        if generative is not None or seed:
            drawn = Generative(1.0 if generative is None else generative, seed)
        done = self._restorer(
            pixels,
            prompt=prompt,
            strength=strength,
            scale=scale,
            tile=tile,
            given=given_of(noise, blur, jpeg),
            least=least,
            symmetries=symmetries,
            generative=drawn,
        )
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

    def _prompts(self, pipe: Pipeline, prompt: Any) -> list[str]:
        """Returns the prompts that a user gave."""
        if prompt is None and pipe.needs_prompt:
            raise UserError(
                f'prompt: {self.trained.path} is conditioned on text; name one such as "a cat"'
            )
        prompts = [prompt or ""] if prompt is None or isinstance(prompt, str) else prompt
        _check_texts(prompts, "prompt")
        if any(prompts) and "prompts" not in pipe.options(pipe.task):
            raise UserError(f"prompt: {self.trained.path} reads no text; leave it out")
        return list(prompts)

    def _refuse_unused(self, pipe: Pipeline, arguments: Mapping[str, Any]) -> None:
        options = pipe.options(pipe.task)
        # An image means something else to a model that writes captions.
        options = options if "strength" in options else options - {"image"}
        for name, value in arguments.items():
            if value is not None and name not in options:
                raise UserError(f"{name}: {self.trained.path} does not use it; leave it out")


def _hashable(value: Any) -> Any:
    value = value.tolist() if isinstance(value, np.ndarray) else value
    return tuple(value) if isinstance(value, list) else value


def _check_texts(texts: Any, name: str) -> None:
    """Raises UserError unless it is a list of texts, at least one."""
    is_list = isinstance(texts, Sequence) and len(texts)
    if not is_list or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{name}={texts!r}: expected a text, or a list of texts")


def _pixels(images: Any, name: str) -> list[np.ndarray]:
    """Returns the pixels of images, uint8 [h, w, 3], upright.

    What is transparent is white, as in files that commands read. In a mask it is black: only what
    is painted white is repainted.
    """
    if images is None:
        return []
    images = [images] if isinstance(images, Image.Image) else images
    kinds = [type(x).__name__ for x in images] if isinstance(images, (list, tuple)) else []
    if not kinds or not all(isinstance(x, Image.Image) for x in images):
        given = f"a list of {', '.join(kinds)}" if kinds else type(images).__name__
        raise UserError(
            f"{name}: {given}; expected a PIL image, such as Image.open(FILE), or a list of them"
        )
    for image in images:
        _refuse_floats(image, name)
    under = "black" if name == "mask" else "white"
    return [np.asarray(to_rgb(ImageOps.exif_transpose(x), under)) for x in images]


def _refuse_floats(image: Image.Image, name: str) -> None:
    """Raises UserError for an image of floats, whose range is not known."""
    if image.mode == "F":
        raise UserError(
            f"{name}: of mode F, floats of unknown range; expected 8 or 16 bits, such as "
            "Image.fromarray((255 * array).astype(np.uint8))"
        )


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
    _refuse_floats(image, "image")
    if image.mode in ("L", "I;16", "RGB"):
        return image, None
    if image.mode.startswith("I"):
        # Pillow's own conversion would clip what is above 255.
        wide = np.asarray(image, np.int64).clip(0, 65535)
        return Image.fromarray(wide.astype(np.uint16)), None
    if image.mode == "1":
        return image.convert("L"), None
    if not image.has_transparency_data:
        return image.convert("RGB"), None
    is_gray = image.mode in ("LA", "La")
    with_alpha = image.convert("RGBA")
    return with_alpha.convert("L" if is_gray else "RGB"), with_alpha.getchannel("A")
