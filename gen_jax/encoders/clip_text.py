"""Texts to CLIP's joint space: its byte-level BPE, read from the files beside the weights."""

import functools
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tokenizers
from jaxtyping import Int32
from tokenizers import decoders, models, normalizers, pre_tokenizers

from gen_jax.common.errors import UserError
from gen_jax.encoders import catalog, files
from gen_jax.encoders.batched import Batched
from gen_jax.encoders.clip import CLIPText

_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"
# Contractions, runs of letters, single digits, runs of anything else; white space separates.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def load_tokenizer(folder: pathlib.Path | None) -> tokenizers.Tokenizer:
    """CLIP's tokenizer from tokenizer.json, or from vocab.json and merges.txt.

    Raises:
      UserError: neither is there.
    """
    if folder is not None and (folder / "tokenizer.json").is_file():
        model = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        model.no_padding()
        model.no_truncation()
        return model
    if folder is None or not (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    ):
        raise UserError(
            f"{folder or 'a weights file alone'}: no tokenizer.json, nor vocab.json with "
            "merges.txt: name a folder that has CLIP's tokenizer beside the weights"
        )
    lines = (folder / "merges.txt").read_text("utf-8").splitlines()
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    model = tokenizers.Tokenizer(
        models.BPE(
            json.loads((folder / "vocab.json").read_text("utf-8")),
            merges,
            end_of_word_suffix="</w>",
            unk_token=_EOS,
        )
    )
    space = tokenizers.Regex(r"\s+")
    model.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(space, " "), normalizers.Lowercase()]
    )
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    model.decoder = decoders.ByteLevel()
    return model


def encode(
    model: tokenizers.Tokenizer, texts: Sequence[str], length: int
) -> Int32[np.ndarray, "n length"]:
    """Ids between begin and end of text, cut to `length`, zeros behind.

    What stands behind the end no state before it sees, so that the filling does not matter.
    """
    first, last = model.token_to_id(_BOS), model.token_to_id(_EOS)
    if first is None or last is None:
        raise UserError(f"the tokenizer has no {_BOS} and {_EOS}: it is none of CLIP's")
    ids = np.zeros((len(texts), length), np.int32)
    for row, found in zip(ids, model.encode_batch(list(texts), add_special_tokens=False)):
        tokens = [first, *found.ids[: length - 2], last]
        row[: len(tokens)] = tokens
    return ids


@functools.lru_cache(maxsize=2)
def open_texts(spec: str, batch_size: int = 256) -> Callable[[Sequence[str]], np.ndarray]:
    """Loads CLIP's text tower and its tokenizer.

    Args:
      spec: "NAME[:WEIGHTS]", see `catalog.parse`; weights that have the tokenizer beside them.
      batch_size: texts at once.

    Returns:
      A function of texts: their embeddings [n, projection_dim], not normalised.

    Raises:
      UserError: a tower that has no joint space, no fitting weights, or no tokenizer.
    """
    name, weights = catalog.parse(spec)
    module, params = catalog.load(name, weights)
    if not isinstance(module, CLIPText) or module.projection_dim is None:
        raise UserError(f"encoder {name!r}: expected a text tower of CLIP with its projection")
    model = load_tokenizer(files.folder_of(weights or catalog.TOWERS[name].hub))

    def forward(params, tokens):
        return module.apply({"params": params}, tokens)["text_embeds"]

    run = Batched(forward, params, batch_size)
    return lambda texts: run(encode(model, texts, module.max_position_embeddings))
