"""Text-to-image and image-to-image sampling by latent diffusion."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.pipelines import edits, latent_tiles
from gen_jax.pipelines.interpolation import walk
from gen_jax.pipelines.sampling import (
    Pipeline,
    Request,
    Samples,
    checked_seeds,
    generate_in_batches,
)
from gen_jax.tasks.latent_sampling import num_skipped

_KEPT_PROGRAMS = 8
_MAX_SIDE = 8192


class TextToImage(Pipeline):
    """A latent diffusion run, ready to sample.

    Settings: `sampler` (see `diffusion.samplers`), `num_inference_steps`, `guidance_scale` (1 for
    none), `guidance_rescale` (arXiv:2305.08891) and `guidance_interval` (arXiv:2404.07724).
    """

    has_own_seeds = True
    needs_prompt = True

    def _compile(self) -> None:
        self._variables = jax.device_put(dict(self.model.variables))
        self._frozen = jax.device_put(dict(self.model.frozen))
        self._program = functools.lru_cache(_KEPT_PROGRAMS)(self._make_program)
        self._run = self._program(self.predict_fn)

    def _make_program(self, name: str, strength: float = 1.0) -> Callable[[Mapping], Mapping]:
        task = dataclasses.replace(self.task, strength=strength)
        predict = jax.jit(task.predict_fns()[name])
        return lambda batch: predict(self._variables, batch, {}, self._frozen)

    @classmethod
    def options(cls, task):
        if task.is_mean_flow:
            # Guidance is an input of the network, away from the empty prompt alone.
            return super().options(task) | {"latents", "size", "tile"}
        edited = {"size", "tile", "image", "mask", "strength", "composite"}
        return super().options(task) | {"negative_prompt", "latents"} | edited

    @property
    def settings(self):
        settings = super().settings
        return {**settings, "guidance_interval": list(settings["guidance_interval"])}

    def notes(self, prompts):
        lines, scale = super().notes(prompts), self.task.guidance_scale
        if scale < 1:
            lines.append(
                f"guidance_scale={scale:g}: below 1 an image follows its prompt less, and at 0 not "
                "at all; 1 is no guidance, as which diffusers takes all of these values"
            )
        return lines

    @property
    def _factor(self) -> int:
        """Returns the pixels per latent along each axis."""
        return self.task.image_size // self.task.latent_shape[0]

    @property
    def size_multiple(self) -> int:
        """Returns what the width and the height of an image are multiples of."""
        halvings = len(self.task.unet.block_out_channels) - 1
        return self._factor * self.task.patch_size * 2**halvings

    def checked_size(self, size: Any = None) -> edits.Size:
        """Returns the width and height of images.

        Args:
          size: Width and height in pixels; None for those of training.

        Raises:
          UserError: The networks do not take this size.
        """
        trained = (self.task.image_size,) * 2
        if size is None:
            return trained
        try:
            width, height = size
        except (TypeError, ValueError):
            raise UserError(f"size={size!r}: expected a width and a height") from None
        unit = self.size_multiple
        sides = [numbers.parse(side, "size", int, 1, _MAX_SIDE) for side in (width, height)]
        if tuple(sides) != trained and any(side % unit for side in sides):
            near = "x".join(str(max(1, round(side / unit)) * unit) for side in sides)
            raise UserError(
                f"size={sides[0]}x{sides[1]}: expected multiples of {unit}, which the autoencoder "
                f"and the UNet take, such as {near}"
            )
        return sides[0], sides[1]

    def size_notes(
        self, size: Sequence[int] | None, images: Sequence[np.ndarray] = ()
    ) -> list[str]:
        """Returns a line for whatever in an image's size may surprise.

        Args:
          size: Width and height of the results, None for those of training.
          images: Images [h, w, 3] that are resized to it.
        """
        width, height = sampled = self.checked_size(size)
        side, lines = self.task.image_size, []
        if self.task.use_coordinates and sampled != (side, side):
            lines.append(
                f"this UNet reads coordinates, which are stretched from {side}x{side} to "
                f"{width}x{height}: so is the layout of an image"
            )
        for image in images:
            given = image.shape[1], image.shape[0]
            lines.append(edits.stretch_note(given, sampled, self.size_multiple))
        return [line for line in dict.fromkeys(lines) if line]

    def _latent_shape(self, size: Any) -> tuple[int, int, int]:
        width, height = self.checked_size(size)
        return height // self._factor, width // self._factor, self.task.latent_shape[2]

    def noise(
        self, seeds: Sequence[int] | np.ndarray, size: Sequence[int] | None = None
    ) -> np.ndarray:
        """Returns the initial noise of each seed, [n, h, w, c]; `size` is that of the image."""
        shape = self._latent_shape(size)
        keys = jnp.stack([jax.random.key(int(s)) for s in seeds])
        return np.asarray(jax.vmap(lambda k: jax.random.normal(k, shape))(keys))

    def walk(self, seeds, count, path="slerp", size=None):
        return walk(self.noise(seeds, size), count, path)

    def encode(
        self, images: Sequence[np.ndarray], tile: int | None = None, batch_size: int = 16
    ) -> np.ndarray:
        """Returns the latents [n, h, w, c] of images, the means of the posterior.

        Args:
          images: uint8 [h, w, 3], all of one size, see `checked_size`.
          tile: As in `Request`.
          batch_size: Images at once.
        """
        run, size = self._program("encode"), (images[0].shape[1], images[0].shape[0])
        side = latent_tiles.side_of_tiles(size, tile, self._factor)
        parts = [
            latent_tiles.encode(run, np.stack(images[i : i + batch_size]), side, self._factor)
            for i in range(0, len(images), batch_size)
        ]
        return np.concatenate(parts)

    def sample(self, request: Request, batch_size: int = 16) -> Samples:
        seeds = checked_seeds(request.seeds)
        size = self.checked_size(request.size)
        tile = latent_tiles.side_of_tiles(size, request.tile, self._factor)
        batch, strength = self._batch(request, seeds), 1.0
        originals, white = self._originals(request, size)
        if originals:
            strength = self.checked_strength(request.strength, bool(white))
            unique, rows = _unique(originals)
            x_0 = self.encode(unique, request.tile, batch_size)
            batch["x_0"] = x_0[np.array(rows)]
        if white:
            batch["is_kept"] = np.stack([edits.kept_latents(m, self._factor) for m in white])
        run = self._run
        if originals or tile:
            draw, decode = self._program("sample", strength), self._program("decode")

            def run(batch):
                latents = np.asarray(draw(batch)["latent"])
                images, finite = latent_tiles.decode(decode, latents, tile, self._factor)
                return {"image": images, "finite": finite}

        images = generate_in_batches(run, batch, batch_size)["image"]
        if white and request.composite:
            images = np.where(np.stack(white)[..., None], images, np.stack(originals))
        return Samples(images)

    def checked_strength(self, strength: float | int | None, is_masked: bool) -> float:
        """Returns the strength of an edit.

        Args:
          strength: 0 to 1; None for 0.8, or 1 with a mask.
          is_masked: Whether there is a mask.

        Raises:
          UserError: It is out of its range, or less than one step.
        """
        if strength is None:
            strength = edits.STRENGTH_OF_MASKED if is_masked else edits.STRENGTH
        strength = numbers.parse(strength, "strength", float, 0, 1)
        steps = self.task.num_inference_steps
        if strength and num_skipped(steps, strength) == steps:
            raise UserError(
                f"strength={strength:g}: less than one of the {steps} steps; expected 0 or at "
                f"least {math.ceil(1000 / steps) / 1000:g}"
            )
        return strength

    def _originals(
        self, request: Request, size: edits.Size
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns the images and which pixels of them are repainted, at the size of sampling."""
        images, masks, count = request.images, request.masks, len(request.seeds)
        for name, rows in (("images", images), ("masks", masks)):
            if rows and len(rows) != count:
                raise UserError(f"{name}: {len(rows)} for {count} seeds; expected one per seed")
        if images and "image" not in self.options(self.task):
            raise UserError(
                f"images: {self.model.path} samples by MeanFlow, which starts from noise alone; "
                "leave them out"
            )
        if masks and not images:
            raise UserError("masks: expected the images that they are masks of")
        for image, mask in zip(images, masks):
            edits.check_proportions(image, mask)
        return _changed(images, edits.resized, size), _changed(masks, edits.repainted, size)

    def _batch(self, request: Request, seeds: np.ndarray) -> dict[str, np.ndarray]:
        x_T = request.latents
        if x_T is None:
            x_T = self.noise(seeds, request.size)
        elif x_T.shape != (len(seeds), *self._latent_shape(request.size)):
            raise UserError(
                f"latents: {x_T.shape}; expected {(len(seeds), *self._latent_shape(request.size))} "
                "for these seeds and this size"
            )
        batch = {**super()._batch(request, seeds), "x_T": x_T}
        if request.negative_prompt:
            negative = self._tokens([request.negative_prompt])
            batch["negative_tokens"] = negative["tokens"].repeat(len(seeds), 0)
            batch["negative_mask"] = negative["token_mask"].repeat(len(seeds), 0)
        return batch


def _changed(rows: Sequence[np.ndarray], change: Callable, size: edits.Size) -> list[np.ndarray]:
    """Returns every row changed to a size, one result for all rows that are the same array."""
    unique, places = _unique(rows)
    results = [change(row, size) for row in unique]
    return [results[place] for place in places]


def _unique(arrays: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[int]]:
    """Returns the arrays that are different objects, and the place of each row among them."""
    places: dict[int, int] = {}
    unique = []
    for array in arrays:
        if id(array) not in places:
            places[id(array)] = len(unique)
            unique.append(array)
    return unique, [places[id(array)] for array in arrays]
