"""Number plates: their characters by connectionist temporal classification (CTC)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from gen_jax.data.load.plate_steps import ASPECT
from gen_jax.data.text import plate_characters
from gen_jax.data.text.plate_characters import BLANK, CLASSES, MAX_LENGTH
from gen_jax.models.heads.plates import PlateNet


@dataclasses.dataclass(frozen=True)
class Plates:
    """CTC loss (Graves et al., ICML 2006) of "text" int32 [10].

    Attributes:
      width: Channels of the reader.
    """

    width: int = 48

    inputs: ClassVar[tuple[str, ...]] = ("image",)
    is_resized: ClassVar[bool] = True

    def network(self):
        return PlateNet(CLASSES, self.width)

    def size(self, image_size):
        return image_size // ASPECT, image_size

    def targets(self, image_size):
        return {"text": jax.ShapeDtypeStruct((MAX_LENGTH,), jnp.int32)}

    def loss(self, output, batch):
        losses = ctc(output, batch["text"])
        return losses.mean(), {"ctc": losses.mean()}

    def predict(self, output, size):
        """Gives "text" int32 [b, 10], the most likely character of each column, repeats and blanks
        removed; and "confidence" [b], the probability of this text over all alignments.
        """
        text = best_path(output)
        return {"text": text, "confidence": jnp.exp(-ctc(output, text))}

    def describe(self, read, size):
        """Gives "text", a string, and "confidence"."""
        text = plate_characters.decode(read["text"])
        return {"text": text, "confidence": float(read["confidence"])}


def ctc(logits: Float[Array, "b t k"], text: Int[Array, "b n"]) -> Float[Array, " b"]:
    """Returns the negative log-probability of texts in nats, `BLANK` after the last character."""
    known = (text > BLANK) & (text < CLASSES)
    # optax wants padding at the end alone.
    real = jnp.cumprod(known.astype(jnp.int32), axis=1)
    none = jnp.zeros(logits.shape[:2], logits.dtype)
    padded = 1.0 - real.astype(logits.dtype)
    return optax.ctc_loss(logits, none, text * real, padded, blank_id=BLANK)


def best_path(logits: Float[Array, "b t k"]) -> Int[Array, "b n"]:
    """Returns the first `MAX_LENGTH` characters of the most likely path, `BLANK` after them."""
    path = logits.argmax(-1).astype(jnp.int32)
    before = jnp.pad(path[:, :-1], ((0, 0), (1, 0)), constant_values=BLANK)
    kept = (path != BLANK) & (path != before)
    place = jnp.where(kept, jnp.cumsum(kept, axis=1) - 1, MAX_LENGTH)
    empty = jnp.zeros((path.shape[0], MAX_LENGTH), jnp.int32)
    rows = jnp.arange(path.shape[0])[:, None]
    return empty.at[rows, place].set(path, mode="drop")
