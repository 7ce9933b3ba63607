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
from gen_jax.data.degradations.bicubic import imresize
from gen_jax.data.photographs.reading import Pixels
from gen_jax.data.text import instruction_parser
from gen_jax.data.text.instruction_parser import Understood
from gen_jax.pipelines import restore_instruction, tiles
from gen_jax.runs.reader import TrainedModel

# Parts of a picture that are looked at to tell what was done to it.
_LOOK, _LOOKS = 192, 3
# Low-resolution pixels around a tile that its enlargement reads: half of the cubic kernel and some.
_MARGIN = 4
TILE = 512
"""Side of the tiles of a picture that is larger, in pixels."""
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
    """

    pixels: Pixels
    told: dict[str, float]
    gate: float | None
    understood: Understood = instruction_parser.EVERYTHING


class Restorer:
    """Calls a trained model of the stage `restore`.

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
            raise UserError(
                f"prompt: {self.model.path} reads no text; leave it out, or name a run of "
                "configs/restore_text.py"
            )
        return instruction_parser.parse(prompt)

    def look(
        self, source: tiles.Source, size: tuple[int, int], known: Mapping[str, float]
    ) -> dict[str, float]:
        """What was done to a picture, from up to nine parts of it.

        Args:
          source: parts of it.
          size: height and width.
          known: name of `PARAMETERS` -> value, which is not estimated.
        """
        if not self.estimates:
            found = dict(known)
            if "sigma" in self._task.network.conditions and "sigma" not in found:
                found["sigma"] = _noise_of(source(0, min(size[0], 1024), 0, min(size[1], 1024)))
            return found
        side = [min(_LOOK, s) for s in size]
        places = [
            sorted({round(k / (_LOOKS - 1) * (whole - part)) for k in range(_LOOKS)})
            for whole, part in zip(size, side)
        ]
        parts = [
            source(top, top + side[0], left, left + side[1])
            for top in places[0]
            for left in places[1]
        ]
        vectors = [self._run("estimate", {"degraded": p[None]})["estimate"][0] for p in parts]
        vector = np.mean(vectors, 0)
        found = {k: float(v * SCALES[k]) for k, v in zip(PARAMETERS, vector)}
        return found | dict(known)

    def apply(
        self,
        source: tiles.Source,
        size: tuple[int, int],
        sink: tiles.Sink,
        told: Mapping[str, float],
        *,
        sentence: str = "",
        tile: int = 0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> float | None:
        """Restores a picture that comes and goes in parts.

        Args:
          source: float32 parts in about [0, 1], of the model's channels.
          size: height and width.
          sink: takes the rows of the result.
          told: what `look` found.
          sentence: What the network is conditioned on, in the words it was trained on; ""
            restores everything.
          tile: side of the tiles, 0 for the whole at once.
          progress: called with the tiles done and their number.

        Returns:
          the mean gate, or None.
        """
        tokens = self._tokens(sentence)
        vector, gates = as_vector(told)[None], []

        def forward(x):
            out = self._run("restore", {"degraded": x, "degradation": vector, **tokens})
            if not np.isfinite(out["restored"]).all():
                raise UserError(
                    f"{self._name}={self.model.path}: output is not finite (NaN or Inf); the "
                    "weights may be corrupt"
                )
            if "gate" in out:
                gates.append(float(out["gate"][0]))
            return out["restored"]

        whole = max(size) if tile == 0 else tile
        tiles.apply(
            forward, source, size, sink, tile=-(-whole // 32) * 32, overlap=min(64, whole // 4),
            progress=progress,
        )  # fmt: skip
        return gates[0] if gates else None

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

    def __call__(
        self,
        pixels: Pixels,
        *,
        prompt: str = "",
        strength: float | int = 1.0,
        scale: int = 1,
        tile: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Restored:
        """Restores a picture of 8 or 16 bits.

        Colour goes through a gray model as luma; its colours are kept. Gray goes through a colour
        model as three equal channels.

        Args:
          pixels: [h, w, 1] or [h, w, 3].
          prompt: An instruction, read by `data.text.instruction_parser`; "" restores everything.
          strength: Share of the change that is applied, 0 (the image as it is) to 1.
          scale: enlarged by this first, 1 or more.
          tile: side of the tiles, 0 for none; None for `TILE` where the picture is larger.
          progress: called with the tiles done and their number.

        Raises:
          UserError: a prompt for a model that reads none, a strength out of range, or weights that
            give no numbers.
        """
        numbers.parse(strength, "strength", float, 0, 1)  # beyond 1 noise comes back inverted
        numbers.parse(scale, "scale", int, 1)
        numbers.parse(tile or 0, "tile", int, 0)
        understood = self.understand(prompt)
        strength = strength * understood.amount
        picture = Enlarged(pixels, scale)
        top = float(np.iinfo(pixels.dtype).max)
        size, channels = picture.size, pixels.shape[-1]
        out = np.empty((*size, channels), pixels.dtype)

        def source(t, b, l, r):
            x = picture(t, b, l, r)
            if channels == self.channels:
                return x
            return x.repeat(3, -1) if channels == 1 else x @ _LUMA[:, None]

        def sink(first, rows):
            x = picture(first, first + len(rows), 0, size[1])
            if channels == self.channels:
                y = rows
            elif channels == 1:
                y = rows.mean(-1, keepdims=True)
            else:
                y = x + (rows - x @ _LUMA[:, None])
            y = x + np.float32(strength) * (y - x)
            out[first : first + len(rows)] = np.round(np.clip(y, 0.0, 1.0) * top)

        known = {"scale": math.log2(scale)} if scale > 1 else {}
        if not understood.remove:
            sink(0, source(0, size[0], 0, size[1]))
            return Restored(out, {}, None, understood)
        told = self.look(source, size, known)
        if tile is None:
            tile = TILE if max(size) > TILE else 0
        sentence, vector = restore_instruction.conditions(understood, told, known)
        gate = self.apply(
            source, size, sink, vector, sentence=sentence, tile=tile, progress=progress
        )
        return Restored(out, told, gate, understood)


class Enlarged:
    """Parts of a picture as float32 in [0, 1], enlarged by MATLAB's bicubic as they are asked for.

    Attributes:
      size: height and width, enlarged.
    """

    def __init__(self, pixels: Pixels, scale: int):
        """`pixels` of 8 or 16 bits, `scale` a whole factor."""
        self._pixels, self._scale = pixels, scale
        self._top = np.float32(np.iinfo(pixels.dtype).max)
        self.size = (pixels.shape[0] * scale, pixels.shape[1] * scale)

    def __call__(self, top: int, bottom: int, left: int, right: int) -> Float[np.ndarray, "h w c"]:
        """One part."""
        s = self._scale
        if s == 1:
            return self._pixels[top:bottom, left:right] / self._top
        (t, b), (l, r) = (
            (max(0, low // s - _MARGIN), min(side, -(-high // s) + _MARGIN))
            for low, high, side in zip((top, left), (bottom, right), self._pixels.shape)
        )
        large = imresize(self._pixels[t:b, l:r] / self._top, s)
        return np.clip(large[top - t * s : bottom - t * s, left - l * s : right - l * s], 0.0, 1.0)


def _noise_of(part: Float[np.ndarray, "h w c"]) -> float:
    """Deviation of the noise in 8-bit units, by wavelets (doi 10.1093/biomet/81.3.425)."""
    from skimage.restoration import estimate_sigma

    if min(part.shape[:2]) < 8:
        return 0.0
    return 255.0 * float(estimate_sigma(part, average_sigmas=True, channel_axis=-1))
