"""A trained restorer on whole pictures of any size, enlarged or not, in bounded memory."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from gen_jax.common import numbers
from gen_jax.common.color import BT601_LUMA
from gen_jax.common.errors import UserError
from gen_jax.data.degradations import PARAMETERS, as_vector
from gen_jax.data.degradations.base import SCALES
from gen_jax.data.photographs.reading import Pixels
from gen_jax.data.text import instruction_parser
from gen_jax.data.text.instruction_parser import Understood
from gen_jax.pipelines import (
    restore_estimate,
    restore_instruction,
    restore_run,
    self_ensemble,
    tiles,
)
from gen_jax.pipelines.enlarged import Enlarged
from gen_jax.pipelines.restore_generative import Generative, Noise, is_broken
from gen_jax.runs.reader import TrainedModel

TILE = 512
"""Side of the tiles of a picture that is larger, in pixels."""
# Smaller images are made up to one of these squares, so that few programs are compiled.
_SIDES = (256, 384, 512, 768, 1024, 1536, 2048)
_LUMA = np.float32(BT601_LUMA)


@dataclasses.dataclass(frozen=True)
class Restored:
    """A restored image.

    Attributes:
      pixels: Of the depth and channels that went in.
      told: Degradation of the input: name of `PARAMETERS` -> value in its unit; empty if nothing
        was to be removed.
      gate: Mean gate of the network, 0 to 1; None if it has none, or if nothing was to be removed.
      understood: What the instruction was read as.
      num_broken: Number of tiles whose generated image was broken, so that the restorer's image
        took its place.
    """

    pixels: Pixels
    told: dict[str, float]
    gate: float | None
    understood: Understood = instruction_parser.EVERYTHING
    num_broken: int = 0


class Restorer:
    """Calls a trained model of the stage `restore` or `restore_ldm`.

    Attributes:
      model: as `runs.reader.load` gives it.
    """

    def __init__(self, model: TrainedModel, name: str = "run"):
        """Checks that the model restores.

        Raises:
          UserError: it is of another stage.
        """
        self.model, self._task, self._name = model, model.task, name
        known = self._task.predict_fns()
        if "restore" not in known:
            stage = model.config.task.name if "task" in model.config else "another"
            raise UserError(
                f"{name}={model.path}: a run of the stage {stage!r}, which restores nothing; name "
                "a run of configs/restore.py"
            )
        self.channels: int = self._task.channels
        self.reads = self._task.text_encoder is not None
        self.estimates = "estimate" in known
        self.generates = "strength" in self._task.predict_spec()["restore"]
        self._rngs = {n: jax.random.key(0) for n in self._task.rng_streams}
        self._compiled = {k: jax.jit(f) for k, f in known.items()}
        self._tokenizer = model.tokenizer() if self.reads else None

    def _run(self, name: str, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        out = self._compiled[name](self.model.variables, batch, self._rngs, self.model.frozen)
        return {k: np.asarray(v) for k, v in out.items()}

    def _tokens(self, sentence: str) -> dict[str, np.ndarray]:
        if not self.reads:
            return {}
        encoded = self._tokenizer.encode([sentence], self._task.text_encoder.max_length)
        return {"tokens": encoded.ids, "token_mask": encoded.mask}

    def understand(self, prompt: str) -> Understood:
        """Reads an instruction of any length.

        Args:
          prompt: The instruction; "" asks to remove everything.

        Raises:
          UserError: The model reads no text.
        """
        if prompt and not self.reads:
            raise restore_run.no_text(self.model.path)
        return instruction_parser.parse(prompt)

    def look(
        self,
        source: tiles.Source,
        size: tuple[int, int],
        known: Mapping[str, float],
        least: Mapping[str, float] | None = None,
    ) -> dict[str, float]:
        """Estimates the degradation of an image from up to nine parts of it.

        Args:
          source: Parts of the image.
          size: Height and width.
          known: Name of `PARAMETERS` -> strength that replaces the estimate.
          least: Name -> strength that a smaller estimate is raised to.
        """
        if not self.estimates:
            strengths = dict(known)
            if "sigma" in self._task.network.conditions and "sigma" not in strengths:
                part = source(0, min(size[0], 1024), 0, min(size[1], 1024))
                strengths["sigma"] = _noise_of(part)
            return strengths
        parts = restore_estimate.parts(source, size)
        vectors = [self._run("estimate", {"degraded": p[None]})["estimate"][0] for p in parts]
        vector = np.mean(vectors, 0)
        estimate = {k: float(v * SCALES[k]) for k, v in zip(PARAMETERS, vector)}
        estimate = restore_estimate.without_aperture(estimate, known.get("scale", 0.0))
        raised = {k: v for k, v in (least or {}).items() if v > estimate[k]}
        return restore_estimate.with_given(estimate, {**raised, **known}, parts)

    def apply(
        self,
        source: tiles.Source,
        size: tuple[int, int],
        sink: tiles.Sink,
        told: Mapping[str, float],
        *,
        sentence: str = "",
        tile: int = 0,
        generative: Generative | None = None,
        symmetries: int = 1,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[float | None, int]:
        """Restores a picture that comes and goes in parts.

        Args:
          source: float32 parts in about [0, 1], of the model's channels.
          size: height and width.
          sink: takes the rows of the result.
          told: what `look` found.
          sentence: What the network is conditioned on, in the words it was trained on; ""
            restores everything.
          tile: Side of the tiles, 0 for the whole at once in its own shape. An image that is
            smaller than a tile is made up to a square of one of few sizes.
          generative: What is generated, of a model that generates; None for the default.
          symmetries: Number of orientations whose results are averaged.
          progress: called with the tiles done and their number.

        Returns:
          the mean gate, or None, and the number of tiles whose generated image was broken.
        """
        tokens = self._tokens(sentence)
        vector, gates, broken = as_vector(told)[None], [], []
        noise, corner = self._noise(generative), (0, 0)

        def located(top, bottom, left, right):
            nonlocal corner
            corner = top, left  # of the tile that is restored next
            return source(top, bottom, left, right)

        def forward(x):
            given = {"degraded": x, "degradation": vector, **tokens}
            if noise is not None:
                given["noise"] = noise(*corner, x.shape[1:3])
                given["strength"] = np.full(1, (generative or Generative()).amount, np.float32)
            out = self._run("restore", given)
            if noise is not None and is_broken(out["restored"][0], out["first_stage"][0]):
                broken.append(corner)
                out["restored"] = out["first_stage"]
            if not np.isfinite(out["restored"]).all():
                raise UserError(
                    f"{self._name}={self.model.path}: output is not finite (NaN or Inf); the "
                    "weights may be corrupt"
                )
            if "gate" in out:
                gates.append(float(out["gate"][0]))
            return out["restored"]

        def averaged(x):
            return self_ensemble.mean_over_symmetries(forward, x, symmetries)

        side = -(-(max(size) if tile == 0 else _square(max(size), tile)) // 32) * 32
        tiles.apply(
            averaged, located, size, sink, tile=side, overlap=min(64, side // 4),
            is_padded=tile != 0, progress=progress,
        )  # fmt: skip
        return (gates[0] if gates else None), len(broken)

    def _noise(self, generative: Generative | None) -> Noise | None:
        """Returns the noise field of an image; None of a model that generates nothing."""
        if not self.generates:
            if generative is not None:
                raise restore_run.no_generation(self.model.path)
            return None
        height, _, channels = self._task.latent_shape
        seed = (generative or Generative()).seed
        return Noise(seed, self._task.image_size // height, channels)

    def array(
        self, image: Float[np.ndarray, "h w c"], known: Mapping[str, float]
    ) -> Float[np.ndarray, "h w c"]:
        """Restores a float image of the model's channels, whole if it is small.

        Returns:
          The restored image, neither clipped nor rounded.
        """
        out = np.empty_like(image)

        def sink(first, rows):
            out[first : first + len(rows)] = rows

        def source(t, b, l, r):
            return image[t:b, l:r]

        size = image.shape[:2]
        told = self.look(source, size, known)
        tile = 0 if max(size) <= 768 else TILE
        self.apply(source, size, sink, told, tile=tile)
        return out

    def estimate(
        self,
        pixels: Pixels,
        scale: int = 1,
        given: Mapping[str, float] | None = None,
        least: Mapping[str, float] | None = None,
    ) -> dict[str, float]:
        """Estimates the degradation of an image: name of `PARAMETERS` -> strength in its unit.

        Args:
          pixels: [h, w, 1] or [h, w, 3] of 8 or 16 bits.
          scale: Factor that it is enlarged by first.
          given: Strengths by hand, see `__call__`.
          least: Least strengths, see `__call__`.
        """
        picture = Enlarged(pixels, scale)
        known = self._known(scale, given or {})
        return self.look(self.source(picture), picture.size, known, least)

    def __call__(
        self,
        pixels: Pixels,
        *,
        prompt: str = "",
        strength: float | int = 1.0,
        scale: int = 1,
        given: Mapping[str, float] | None = None,
        least: Mapping[str, float] | None = None,
        estimate: Mapping[str, float] | None = None,
        tile: int | None = None,
        generative: Generative | None = None,
        symmetries: int = 1,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Restored:
        """Restores an image of 8 or 16 bits.

        Color goes through a gray model as luma; its colors are kept. Gray goes through a color
        model as three equal channels.

        Args:
          pixels: [h, w, 1] or [h, w, 3].
          prompt: An instruction, read by `data.text.instruction_parser`; "" restores everything.
          strength: Share of the change that is applied, 0 (the image as it is) to 1.
          scale: Whole factor that the image is enlarged by first, 1 or more.
          given: Strengths that replace the estimates: name of `PARAMETERS` -> value in its unit.
            What has a strength of 0 is not removed.
          least: Strengths that smaller estimates are raised to, such as the compression that a
            file itself states: name of `PARAMETERS` -> value in its unit.
          estimate: What `estimate` returns for this image or for others of the same file; None
            estimates it here.
          tile: Side of the tiles, 0 for none; None for `TILE`. Smaller images are made up to one
            of few sizes, unless it is 0.
          generative: What is generated, of a model that generates; None for the default.
          symmetries: Number of orientations whose results are averaged, one of
            `self_ensemble.COUNTS`: 8 is a little better than 1 and takes 8 times as long.
          progress: Called with the tiles done and their number.

        Raises:
          UserError: A prompt for a model that reads none, a generative part of one that generates
            nothing, a given strength that the model is not
            conditioned on, a number out of range, or weights whose output is not finite.
        """
        numbers.parse(strength, "strength", float, 0, 1)  # beyond 1 noise comes back inverted
        numbers.parse(scale, "scale", int, 1)
        numbers.parse(tile or 0, "tile", int, 0)
        self._check_symmetries(symmetries)
        understood = self.understand(prompt)
        known = self._known(scale, given or {})
        self._noise(generative)  # refuses before any work
        picture = Enlarged(pixels, scale)
        out = np.empty((*picture.size, pixels.shape[-1]), pixels.dtype)
        source = self.source(picture)
        sink = self._sink(picture, out, strength * understood.amount)
        asked = restore_instruction.without_absent(understood, known)
        if not asked.remove:
            out[:] = picture.whole()
            return Restored(out, {}, None, understood)
        told = {**estimate, **known} if estimate else self.look(source, picture.size, known, least)
        sentence, vector = restore_instruction.conditions(asked, told, known)
        tile = TILE if tile is None else tile
        gate, num_broken = self.apply(
            source, picture.size, sink, vector, sentence=sentence, tile=tile,
            generative=generative, symmetries=symmetries, progress=progress,
        )  # fmt: skip
        return Restored(out, told, gate, understood, num_broken)

    def _check_symmetries(self, count: int) -> None:
        if count not in self_ensemble.COUNTS:
            known = ", ".join(map(str, self_ensemble.COUNTS))
            raise UserError(f"symmetries={count}: expected one of {known}")
        if count > 1 and self.generates:
            raise UserError(
                f"symmetries={count}: {self.model.path} generates detail, and the mean of several "
                "images would blur it; leave it out"
            )

    def _known(self, scale: int, given: Mapping[str, float]) -> dict[str, float]:
        """Checks that the network is conditioned on what is given, and adds the scale."""
        conditions = self._task.network.conditions
        usable = PARAMETERS if "degradation" in conditions else set(conditions)
        restore_run.refuse_given(self.model.path, given, usable)
        return {**({"scale": math.log2(scale)} if scale > 1 else {}), **given}

    def source(self, picture: Enlarged) -> tiles.Source:
        """Returns parts of an image in the model's channels."""

        def source(t, b, l, r):
            x = picture(t, b, l, r)
            if x.shape[-1] == self.channels:
                return x
            return x.repeat(3, -1) if x.shape[-1] == 1 else x @ _LUMA[:, None]

        return source

    def _sink(self, picture: Enlarged, out: np.ndarray, strength: float) -> tiles.Sink:
        """Returns a function that writes rows of the result in the channels of the image."""
        top, channels = float(np.iinfo(out.dtype).max), out.shape[-1]

        def sink(first, rows):
            x = picture(first, first + len(rows), 0, out.shape[1])
            if channels == self.channels:
                y = rows
            elif channels == 1:
                y = rows.mean(-1, keepdims=True)
            else:
                y = x + (rows - x @ _LUMA[:, None])
            y = x + np.float32(strength) * (y - x)
            out[first : first + len(rows)] = np.round(np.clip(y, 0.0, 1.0) * top)

        return sink


def _square(longest: int, tile: int) -> int:
    """Returns the side of the tiles of an image: `tile`, or less if the whole image fits."""
    return min([side for side in _SIDES if longest <= side < tile], default=tile)


def _noise_of(part: Float[np.ndarray, "h w c"]) -> float:
    """Deviation of the noise in 8-bit units, by wavelets (doi 10.1093/biomet/81.3.425)."""
    from skimage.restoration import estimate_sigma

    if min(part.shape[:2]) < 8:
        return 0.0
    return 255.0 * float(estimate_sigma(part, average_sigmas=True, channel_axis=-1))
