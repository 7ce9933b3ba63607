"""The tokenizer that belongs to a text tower."""

import os

import flax.linen as nn

from gen_jax.data.text.clip_tokenizer import ClipTokenizer
from gen_jax.data.text.tokenizer import Tokenizer
from gen_jax.data.text.wordpiece_tokenizer import WordPieceTokenizer
from gen_jax.encoders.clip import CLIPText


def kind_of(module: nn.Module) -> type[Tokenizer]:
    """The class of a tower's tokenizer: CLIP's, or else BERT's."""
    return ClipTokenizer if isinstance(module, CLIPText) else WordPieceTokenizer


def find(name: str, module: nn.Module, where: str | os.PathLike) -> Tokenizer:
    """Reads a tower's tokenizer.

    Args:
      name: the tower's, in the catalog. OpenCLIP's towers, whose names begin with "CLIP-", have
        their text padded with 0, OpenAI's with the mark of the end.
      module: the tower.
      where: a file of its vocabulary, or the folder that holds one, mostly beside the weights.

    Raises:
      UserError: there is none, or one of another kind.
    """
    if kind_of(module) is ClipTokenizer:
        return ClipTokenizer.find(where, pad_id=0 if name.startswith("CLIP-") else None)
    return WordPieceTokenizer.find(where)
