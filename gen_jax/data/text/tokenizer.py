"""Text to ids: what all tokenizers share, and a small one that is trained on the captions."""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Bool, Int32

from gen_jax.common import files
from gen_jax.common.errors import UserError
from gen_jax.data.text import vocabulary

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
_SPECIALS = (PAD, BOS, EOS)

# The 256 bytes and the special tokens must find room.
MIN_VOCAB = 256 + len(_SPECIALS)


class Encoded(NamedTuple):
    """Token ids; which of them are no padding; which texts did not fit."""

    ids: Int32[np.ndarray, "n length"]
    mask: Bool[np.ndarray, "n length"]
    truncated: Bool[np.ndarray, " n"]


class Tokenizer:
    """Text -> ids of fixed length: start, tokens, end, padding.

    What every kind has in common: the one trained here, CLIP's and BERT's. Each of them is a
    tokenizer.json in a run directory, which `tokenizer_file.load` reads.

    Attributes:
      bos_id, eos_id: what every row begins with, and ends with before its padding.
      pad_id: what fills a row up.
    """

    def __init__(self, model: tokenizers.Tokenizer, bos_id: int, eos_id: int, pad_id: int):
        """Wraps a model; see `train_tokenizer`, `tokenizer_file.load` and the subclasses."""
        self._model = model
        self.bos_id, self.eos_id, self.pad_id = bos_id, eos_id, pad_id

    @property
    def vocab_size(self) -> int:
        return self._model.get_vocab_size()

    @property
    def digest(self) -> str:
        """SHA-256 of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def encode(self, texts: Sequence[str], max_length: int) -> Encoded:
        """Encodes texts.

        Args:
          texts: any strings, of any length and in any script.
          max_length: length of the result, at least 2. Longer texts are cut, and
            end in `eos_id` all the same.

        Returns:
          ids [n, max_length], mask [n, max_length] (True up to and with the end), truncated [n].
        """
        if max_length < 2:
            raise UserError(f"max_length={max_length}: at least 2, start and end need room")
        ids = np.full((len(texts), max_length), self.pad_id, np.int32)
        mask = np.zeros((len(texts), max_length), bool)
        truncated = np.zeros(len(texts), bool)
        for row, tokens in enumerate(self._tokens(texts)):
            if len(tokens) > max_length - 2:
                tokens, truncated[row] = tokens[: max_length - 2], True
            tokens = [self.bos_id, *tokens, self.eos_id]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return Encoded(ids, mask, truncated)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without start and end."""
        # Half a surrogate pair, as broken input has it, is not representable as UTF-8.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        found = self._model.encode_batch_fast(clean, add_special_tokens=False)
        return [one.ids for one in found]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of one row of ids, lowercased or else as cleaned, without special tokens."""
        return self._model.decode([int(i) for i in ids], skip_special_tokens=True)

    def to_json(self) -> str:
        return self._model.to_str()

    def unknown_words(self, text: str) -> list[str]:
        """Returns the words of a text that the vocabulary does not hold, in their order.

        A vocabulary of pieces that can spell any word, such as CLIP's, knows all.
        """
        return []

    def save(self, path: str | os.PathLike) -> None:
        """Writes tokenizer.json atomically."""
        files.write_text(path, self.to_json())


class CompactTokenizer(Tokenizer):
    """Byte-level BPE over lowercased text, trained on the captions at hand.

    Every script and every emoji has a representation, and no token is "unknown". One is trained
    in a second, so that a recipe needs no download.
    """

    pad_id, bos_id, eos_id = range(3)

    def __init__(self, model: tokenizers.Tokenizer):
        super().__init__(model, self.bos_id, self.eos_id, self.pad_id)
        # "<eos>" in a prompt is seven letters, not the end of it.
        self._model.encode_special_tokens = True

    def unknown_words(self, text: str) -> list[str]:
        """Returns the words that have no token of their own, as frequent words of captions have."""
        return [w for w in words(text) if all(self._pieces(s + w) > 1 for s in ("", " "))]

    def _pieces(self, word: str) -> int:
        return len(self._model.encode(word, add_special_tokens=False).ids)

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> "CompactTokenizer":
        """Reads what `save` wrote."""
        model = vocabulary.read_model(path)
        if [model.token_to_id(t) for t in _SPECIALS] != [cls.pad_id, cls.bos_id, cls.eos_id]:
            raise UserError(f"{path}: lacks {', '.join(_SPECIALS)} as tokens 0, 1, 2")
        return cls(model)


def words(text: str) -> list[str]:
    """Returns the different words of a text."""
    return list(dict.fromkeys(re.findall(r"\w+", text)))


def train_tokenizer(captions: Iterable[str], vocab_size: int) -> CompactTokenizer:
    """Trains a tokenizer; the same captions give the same one.

    Args:
      captions: the text to learn from, in any order.
      vocab_size: at most so many tokens, at least MIN_VOCAB. Few captions give fewer.

    Raises:
      UserError: the vocabulary is too small.
    """
    if vocab_size < MIN_VOCAB:
        raise UserError(f"vocab_size={vocab_size}: at least {MIN_VOCAB}, one token for each byte")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.NFC(), tokenizers.normalizers.Lowercase()]
    )
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIALS),
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(sorted(captions), trainer)
    return CompactTokenizer(model)
