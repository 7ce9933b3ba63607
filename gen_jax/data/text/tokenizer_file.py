"""Reads tokenizer.json, whatever kind of tokenizer it holds."""

import os

from gen_jax.data.text import vocabulary
from gen_jax.data.text.clip_tokenizer import ClipTokenizer
from gen_jax.data.text.tokenizer import CompactTokenizer, Tokenizer
from gen_jax.data.text.wordpiece_tokenizer import WordPieceTokenizer


def load(path: str | os.PathLike) -> Tokenizer:
    """Reads what `Tokenizer.save` wrote.

    Raises:
      UserError: The file is missing, or is not a tokenizer of one of our kinds.
    """
    model = vocabulary.read_json(path).get("model") or {}
    if model.get("type") == "WordPiece":
        return WordPieceTokenizer.from_json(path)
    if model.get("end_of_word_suffix"):
        return ClipTokenizer.from_json(path)
    return CompactTokenizer.from_json(path)
