"""WordPiece, the tokenizer of BERT (arXiv:1810.04805), DistilBERT and MiniLM."""

import os
import pathlib

import tokenizers

from gen_jax.common.errors import UserError
from gen_jax.data.text import vocabulary
from gen_jax.data.text.tokenizer import Tokenizer, words

FILES = ("tokenizer.json", "vocab.txt")
"""What a vocabulary is read from."""

_CONFIG = "tokenizer_config.json"
_PAD, _CLS, _SEP, _UNK = "[PAD]", "[CLS]", "[SEP]", "[UNK]"


class WordPieceTokenizer(Tokenizer):
    """BERT's ids: [CLS], pieces, [SEP], [PAD]; these marks are recognised in a text, as there."""

    def __init__(self, model: tokenizers.Tokenizer):
        """Wraps a model; see `find`.

        Raises:
          UserError: one of the marks is missing.
        """
        ids = {mark: model.token_to_id(mark) for mark in (_CLS, _SEP, _PAD, _UNK)}
        if missing := [mark for mark, i in ids.items() if i is None]:
            raise UserError(f"the vocabulary lacks {', '.join(missing)}")
        super().__init__(model, ids[_CLS], ids[_SEP], ids[_PAD])

    def unknown_words(self, text: str) -> list[str]:
        """Returns the words that become the mark [UNK]."""
        unknown = self._model.token_to_id(_UNK)
        return [w for w in words(text) if unknown in self._model.encode(w).ids]

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> "WordPieceTokenizer":
        """Of a tokenizer.json, Hugging Face's or one that `save` wrote."""
        model = vocabulary.read_model(path)
        if not isinstance(model.model, tokenizers.models.WordPiece):
            raise UserError(f"{path}: holds no WordPiece; expected BERT's vocabulary")
        return _named(path, model)

    @classmethod
    def find(cls, where: str | os.PathLike) -> "WordPieceTokenizer":
        """Of what a user names.

        Args:
          where: a vocab.txt, a tokenizer.json, or a folder with one of them. Text is lowercased
            and loses its accents unless the tokenizer.json, or a tokenizer_config.json beside
            the vocab.txt, says otherwise.

        Raises:
          UserError: nothing there, or no vocabulary of BERT.
        """
        path = vocabulary.find(where, FILES)
        if path.suffix == ".json":
            return cls.from_json(path)
        tokens = vocabulary.read_text(path).split("\n")
        vocab = {token.rstrip("\r"): i for i, token in enumerate(tokens) if token}
        if _UNK not in vocab:
            raise UserError(f"{path}: the vocabulary lacks {_UNK}; expected BERT's, a token a line")
        model = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token=_UNK))
        model.normalizer = tokenizers.normalizers.BertNormalizer(**_normalisation(path))
        model.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        model.decoder = tokenizers.decoders.WordPiece(prefix="##")
        marks = (_PAD, _UNK, _CLS, _SEP, "[MASK]")
        model.add_special_tokens([mark for mark in marks if mark in vocab])
        return _named(path, model)


def _named(path: str | os.PathLike, model: tokenizers.Tokenizer) -> WordPieceTokenizer:
    """A tokenizer; a mistake in the file is told with its name."""
    try:
        return WordPieceTokenizer(model)
    except UserError as error:
        raise UserError(f"{path}: {error}; expected BERT's vocabulary") from None


def _normalisation(path: pathlib.Path) -> dict[str, bool | None]:
    """Options that the file beside the vocabulary gives, transformers' defaults otherwise."""
    config = path.with_name(_CONFIG)
    said = vocabulary.read_json(config) if config.is_file() else {}
    return {
        "lowercase": said.get("do_lower_case", True),
        "strip_accents": said.get("strip_accents"),
        "handle_chinese_chars": said.get("tokenize_chinese_chars", True),
    }
