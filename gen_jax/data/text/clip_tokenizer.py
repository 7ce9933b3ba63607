"""CLIP's tokenizer (arXiv:2103.00020): byte-level BPE with an end-of-word mark.

Text is cleaned and split as OpenAI's and OpenCLIP's `SimpleTokenizer` do it, with the same
libraries (ftfy, regex); the merges are done by `tokenizers`. transformers' `CLIPTokenizer` cleans
less: mojibake, HTML entities and control characters get other ids there.
"""

import html
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import ftfy
import numpy as np
import regex
import tokenizers

from gen_jax.common import files
from gen_jax.common.errors import UserError
from gen_jax.data.text import vocabulary
from gen_jax.data.text.tokenizer import Tokenizer

FILES = ("tokenizer.json", "vocab.json", "bpe_simple_vocab_16e6.txt.gz")
"""What a vocabulary is read from; `vocab.json` needs `merges.txt` beside it."""

# OpenAI's file holds five times as many, of which the models know these.
_MERGES = 49152 - 256 - 2
_END_OF_WORD = "</w>"
_HUGGING_FACE = ("<|startoftext|>", "<|endoftext|>")
_OPEN_CLIP = ("<start_of_text>", "<end_of_text>")
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class ClipTokenizer(Tokenizer):
    """CLIP's ids; the marks of start and end are recognised in a text, as in the original."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        pad_id: int | None = None,
    ):
        """Of a vocabulary and its merges; see `find`.

        Args:
          vocab: token -> id, the marks of start and end among them, spelled either way.
          merges: pairs of tokens, the first to be merged first.
          pad_id: None for the end's (OpenAI as in transformers); OpenCLIP pads with 0.

        Raises:
          UserError: a byte, a mark, or a token of a merge is missing.
        """
        marks = next((m for m in (_HUGGING_FACE, _OPEN_CLIP) if all(t in vocab for t in m)), None)
        if marks is None:
            raise UserError(f"the vocabulary has neither {_HUGGING_FACE} nor {_OPEN_CLIP}")
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        if missing := [c for c in alphabet if c not in vocab or c + _END_OF_WORD not in vocab]:
            raise UserError(f"the vocabulary lacks {len(missing)} of the 256 bytes")
        try:
            bpe = tokenizers.models.BPE(dict(vocab), list(merges), end_of_word_suffix=_END_OF_WORD)
        except Exception as error:  # the library raises a bare Exception
            raise UserError(f"vocabulary and merges do not fit ({str(error)[:80]})") from None
        model = tokenizers.Tokenizer(bpe)
        pattern = "|".join([*map(regex.escape, marks), _WORDS])
        self._words = regex.compile(pattern, regex.IGNORECASE)
        # Words come split already; who reads the JSON elsewhere needs the way there.
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(_WORDS), "removed", invert=True)
        self._byte_level = tokenizers.pre_tokenizers.ByteLevel(
            add_prefix_space=False, use_regex=False
        )
        self._complete = tokenizers.pre_tokenizers.Sequence([split, self._byte_level])
        model.pre_tokenizer = self._byte_level
        model.decoder = tokenizers.decoders.ByteLevel()
        model.add_special_tokens(list(marks))
        bos, eos = (vocab[mark] for mark in marks)
        super().__init__(model, bos, eos, eos if pad_id is None else pad_id)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        words = [self._words.findall(clean(text)) for text in texts]
        found = self._model.encode_batch_fast(words, is_pretokenized=True, add_special_tokens=False)
        return [one.ids for one in found]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The cleaned text of one row of ids, a blank after every word."""
        return super().decode(ids).replace(_END_OF_WORD, " ").strip()

    def to_json(self) -> str:
        copy = tokenizers.Tokenizer.from_str(self._model.to_str())
        copy.normalizer = tokenizers.normalizers.Sequence(
            [tokenizers.normalizers.NFC(), tokenizers.normalizers.Lowercase()]
        )
        copy.pre_tokenizer = self._complete
        copy.enable_padding(pad_id=self.pad_id, pad_token=copy.id_to_token(self.pad_id))
        return copy.to_str()

    def save_vocabulary(self, folder: pathlib.Path, max_length: int) -> None:
        """Writes the files that transformers' `CLIPTokenizer` reads into a folder.

        Args:
          folder: A folder that is there.
          max_length: Length of an encoded text.
        """
        model = json.loads(self._model.to_str())["model"]
        names = dict(zip(_OPEN_CLIP, _HUGGING_FACE))
        vocab = {names.get(token, token): i for token, i in model["vocab"].items()}
        merges = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
        tokens = {i: token for token, i in vocab.items()}
        special = dict(zip(("bos_token", "eos_token"), _HUGGING_FACE))
        special |= {"unk_token": _HUGGING_FACE[1], "pad_token": tokens[self.pad_id]}
        config = {
            **special,
            "add_prefix_space": False,
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": max_length,
            "tokenizer_class": "CLIPTokenizer",
        }
        for name, text in (
            ("vocab.json", json.dumps(vocab, ensure_ascii=False)),
            ("merges.txt", "\n".join(merges)),
            ("special_tokens_map.json", json.dumps(special, indent=2)),
            ("tokenizer_config.json", json.dumps(config, indent=2)),
        ):
            files.write_text(folder / name, text + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike, pad_id: int | None = None) -> "ClipTokenizer":
        """Of a tokenizer.json, Hugging Face's or one that `save` wrote.

        Args:
          path: the file.
          pad_id: None leaves it to the file.
        """
        parsed = vocabulary.read_json(path)
        model = parsed.get("model") or {}
        if not model.get("vocab") or "merges" not in model:
            raise UserError(f"{path}: holds no vocabulary with merges; expected CLIP's")
        vocab = dict(model["vocab"])
        vocab |= {t["content"]: t["id"] for t in parsed.get("added_tokens") or ()}
        # Old files have them as "a b".
        merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
        if pad_id is None:
            pad_id = _pad_id(pathlib.Path(path).parent, vocab)
        if pad_id is None and parsed.get("padding"):
            pad_id = parsed["padding"]["pad_id"]
        return _named(path, vocab, merges, pad_id)

    @classmethod
    def find(cls, where: str | os.PathLike, pad_id: int | None = None) -> "ClipTokenizer":
        """Of what a user names.

        Args:
          where: OpenAI's bpe_simple_vocab_16e6.txt.gz or another file of merges; a
            tokenizer.json; a vocab.json with merges.txt beside it; a folder with one of them.
          pad_id: as in the constructor; None leaves it to the file, where it says one.

        Raises:
          UserError: nothing there, or no CLIP vocabulary.
        """
        path = vocabulary.find(where, FILES)
        if path.name.endswith((".txt", ".txt.gz")):
            merges = _read_merges(path)
            return _named(path, _vocab_of(merges), merges, pad_id)
        if path.name == "vocab.json":
            vocab = vocabulary.read_json(path)
            if pad_id is None:
                pad_id = _pad_id(path.parent, vocab)
            return _named(path, vocab, _read_merges(path.with_name("merges.txt")), pad_id)
        return cls.from_json(path, pad_id)


def _pad_id(folder: pathlib.Path, vocab: Mapping[str, int]) -> int | None:
    """Returns the id of the padding token that the files beside a vocabulary name, if they do.

    Stable Diffusion 2 pads with "!", whose id is 0.
    """
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            token = vocabulary.read_json(folder / name).get("pad_token")
            token = token.get("content") if isinstance(token, dict) else token
            if token in vocab:
                return vocab[token]
    return None


def clean(text: str) -> str:
    """Mojibake mended, HTML entities and blanks as they are read, lowercased."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _named(path, vocab, merges, pad_id) -> ClipTokenizer:
    """A tokenizer; a mistake in the file is told with its name."""
    try:
        return ClipTokenizer(vocab, merges, pad_id)
    except UserError as error:
        raise UserError(f"{path}: {error}; expected CLIP's vocabulary") from None


def _read_merges(path: pathlib.Path) -> list[tuple[str, str]]:
    """Pairs, one a line after the first, which says the version."""
    lines = vocabulary.read_text(path).split("\n")[1 : _MERGES + 1]
    pairs = [tuple(line.split()) for line in lines if line.strip()]
    if wrong := next((p for p in pairs if len(p) != 2), None):
        raise UserError(f"{path}: {' '.join(wrong)[:40]!r} is no pair; expected a file of merges")
    return pairs


def _vocab_of(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Ids in OpenAI's order: bytes, bytes that end a word, merges, the marks."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(c + _END_OF_WORD for c in alphabet), *(a + b for a, b in merges)]
    return {token: i for i, token in enumerate([*tokens, *_OPEN_CLIP])}
