"""Text as a stage is told it: a small encoder trained along, or a frozen published tower."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gen_jax.common.build import by_name
from gen_jax.common.errors import UserError
from gen_jax.data.text.tokenizer import CompactTokenizer, Tokenizer
from gen_jax.encoders.bert import BertEncoder
from gen_jax.encoders.clip import CLIPText
from gen_jax.encoders.weights import Port
from gen_jax.models.text_encoder import CompactTextEncoder

TRAINED = {"compact": CompactTextEncoder}
FROZEN = {"clip": CLIPText, "distilbert": BertEncoder}
"""Name in a config -> what its tower must be."""

LAYERS = (-1, -2)


@dataclasses.dataclass(frozen=True)
class TowerConfig:
    """What `config.task.text_encoder` may hold besides the name of a frozen encoder.

    Attributes:
      tower: name in `encoders.catalog`.
      weights: see `encoders.load`; "" fetches the published ones.
      vocabulary: file or folder of the tokenizer; "" looks beside the weights.
      layer: -1 for the last states (Stable Diffusion 1, and 2 by its own folder, which leaves
        out the last block), -2 for those before (Stable Diffusion 2 by OpenCLIP's weights).
      max_length: tokens of a caption.
      dtype: compute dtype.
    """

    tower: str
    weights: str = ""
    vocabulary: str = ""
    layer: int = -1
    max_length: int = 77
    dtype: Any = jnp.float32


CONFIGS = {**TRAINED, **dict.fromkeys(FROZEN, TowerConfig)}
"""Name in `config.task.text_encoder` -> what its other keys are fields of."""


@dataclasses.dataclass(frozen=True)
class FrozenText:
    """A frozen tower as the text encoder of a stage; its parameters are `frozen["text"]`.

    Attributes:
      tower: of CLIP or BERT.
      max_length: tokens of a caption.
      layer: see `TowerConfig`.
      bos_id, eos_id, pad_id: of its tokenizer.
    """

    tower: CLIPText | BertEncoder
    max_length: int
    layer: int
    bos_id: int
    eos_id: int
    pad_id: int

    @classmethod
    def make(cls, tower: nn.Module, config: TowerConfig, tokenizer: Tokenizer) -> "FrozenText":
        """Checked against its tokenizer.

        Raises:
          UserError: it reads fewer tokens than asked for, or knows fewer, or has no such layer.
        """
        where = "config.task.text_encoder"
        if config.layer not in LAYERS:
            raise UserError(f"{where}.layer={config.layer}: expected one of {LAYERS}")
        if not 2 <= config.max_length <= tower.max_position_embeddings:
            raise UserError(
                f"{where}.max_length={config.max_length}: {config.tower} reads 2 to "
                f"{tower.max_position_embeddings} tokens"
            )
        if tokenizer.vocab_size > tower.vocab_size:
            raise UserError(
                f"{where}.vocabulary: {tokenizer.vocab_size} tokens, but {config.tower} knows "
                f"{tower.vocab_size}; name the vocabulary that it was trained with"
            )
        ids = (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
        return cls(tower, config.max_length, config.layer, *ids)

    @property
    def hidden_size(self) -> int:
        return self.tower.hidden_size

    @property
    def vocab_size(self) -> int:
        return self.tower.vocab_size

    def as_frozen(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """What `encode` gets as `frozen["text"]`."""
        return {"params": variables["params"]["model"]}

    def states(
        self, params: Mapping[str, Any], tokens: Int[Array, "b n"], mask: Bool[Array, "b n"]
    ) -> tuple[Float[Array, "b n d"], Bool[Array, "b n"] | None]:
        """States, float32, and which of them a UNet may attend to.

        CLIP's are normalised by its final norm, and none is hidden: Stable Diffusion was trained
        to read padding too. Of BERT padding is hidden from its own attention and the UNet's.
        """
        if isinstance(self.tower, CLIPText):
            out = self.tower.apply({"params": params}, tokens)
            states, seen = (
                out["last_hidden_state" if self.layer == -1 else "penultimate_norm"],
                None,
            )
        else:
            out = self.tower.apply({"params": params}, tokens, mask)
            states, seen = out["hidden_states"][self.layer], mask
        return jax.lax.stop_gradient(states.astype(jnp.float32)), seen


def build_text_encoder(
    config: Mapping[str, Any], frozen_tasks: Mapping[str, Any]
) -> nn.Module | FrozenText:
    """The encoder that `config.task.text_encoder` names.

    Args:
      config: its values.
      frozen_tasks: the loaded tower as "text", where it is a frozen one.

    Raises:
      UserError: no such name, or a key that does not fit.
    """
    name = config.get("name")
    if name in FROZEN:
        if "text" not in frozen_tasks:
            raise ValueError(f"the tower of text_encoder.name={name!r} is to be loaded first")
        return frozen_tasks["text"]
    if name not in TRAINED:
        known = ", ".join((*TRAINED, *FROZEN))
        raise UserError(f"config.task.text_encoder.name={name!r}: expected one of {known}")
    return by_name(TRAINED, config, "config.task.text_encoder")


def is_trained(encoder: nn.Module | FrozenText) -> bool:
    """Returns whether an encoder is trained along, so that its parameters are the stage's own."""
    return not isinstance(encoder, FrozenText)


def init(encoder: nn.Module | FrozenText, rng: jax.Array, tokens, mask) -> dict[str, Any]:
    """Fresh parameters as a part of the group "model": empty for a frozen tower."""
    if isinstance(encoder, FrozenText):
        return {}
    return {"text_encoder": encoder.init(rng, tokens, mask)["params"]}


def encode(
    encoder: nn.Module | FrozenText,
    params: Mapping[str, Any],
    frozen: Mapping[str, Any],
    tokens: Int[Array, "b n"],
    mask: Bool[Array, "b n"],
) -> tuple[Float[Array, "b n d"], Bool[Array, "b n"] | None]:
    """A state a token, and which of them a UNet may attend to (None for all).

    Args:
      encoder: of the task.
      params: the group "model".
      frozen: parameters that are not trained.
      tokens: ids.
      mask: True at real tokens.
    """
    if isinstance(encoder, FrozenText):
        return encoder.states(frozen["text"]["params"], tokens, mask)
    return encoder.apply({"params": params["text_encoder"]}, tokens, mask), mask


def lora_components(
    encoder: nn.Module | FrozenText,
) -> dict[str, tuple[tuple[str, ...], Port]]:
    """Returns the text encoder's entry of `Task.lora_components`; none for one trained along."""
    if not isinstance(encoder, FrozenText):
        return {}
    return {"text_encoder": (("frozen", "text", "params"), encoder.tower.port)}


def empty(
    encoder: nn.Module | FrozenText, batch_size: int
) -> tuple[Int[Array, "b n"], Bool[Array, "b n"]]:
    """Tokens and mask of the empty prompt, as the encoder's tokenizer gives them for ""."""
    # A trained encoder's tokenizer is trained too, and has its ids from the class.
    ids = encoder if isinstance(encoder, FrozenText) else CompactTokenizer
    length = encoder.max_length
    row = jnp.full((length,), ids.pad_id, jnp.int32).at[0].set(ids.bos_id).at[1].set(ids.eos_id)
    mask = jnp.arange(length) < 2
    return (
        jnp.broadcast_to(row[None], (batch_size, length)),
        jnp.broadcast_to(mask[None], (batch_size, length)),
    )
