"""CLIP's tokenizer, from its two files and from tokenizer.json."""

import gzip
import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import encoders
from gen_jax.common.errors import UserError
from gen_jax.encoders import clip_text
from tests import tiny_towers

# Ids that transformers' CLIPTokenizer gives with OpenAI's vocabulary.
KNOWN = {
    "": [],
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "A  photo\nof a CAT": [320, 1125, 539, 320, 2368],
    "it's 2024, isn't it?!": [585, 568, 273, 271, 273, 275, 267, 2923, 713, 585, 2835],
    "naïve café — 猫の写真 🐈": [
        1097,
        35689,
        563,
        15304,
        2005,
        163,
        234,
        104,
        21575,
        44653,
        33440,
        509,
        2074,
        486,
    ],
    "<|x|> weird__tokens 3.14 don't": [
        27,
        347,
        343,
        91,
        285,
        5613,
        3838,
        23562,
        274,
        269,
        272,
        275,
        847,
        713,
    ],
    "  lead and trail  ": [2784, 537, 4921],
}


def test_words_are_merged_and_the_end_follows(tmp_path):
    tiny_towers.clip(tmp_path / "clip")
    model = clip_text.load_tokenizer(tmp_path / "clip")
    place = {v: i for i, v in enumerate(tiny_towers.VOCAB)}
    ids = clip_text.encode(model, ["cat a", "C  AT", "s" * 40], 8)
    assert ids.shape == (3, 8) and ids.dtype == np.int32
    first, last, c, at, a = (place[v] for v in (*tiny_towers.VOCAB[:2], "c", "at</w>", "a</w>"))
    assert ids[0].tolist() == [first, c, at, a, last, 0, 0, 0]
    assert (ids[2, 0], ids[2, -1]) == (first, last)  # cut, and ended all the same
    model.save(str(tmp_path / "clip" / "tokenizer.json"))
    (tmp_path / "clip" / "vocab.json").unlink()
    again = clip_text.load_tokenizer(tmp_path / "clip")
    assert np.array_equal(clip_text.encode(again, ["cat a", "C  AT", "s" * 40], 8), ids)


def test_embeddings_are_the_towers_whatever_stands_behind_the_end(tmp_path):
    spec = tiny_towers.clip(tmp_path / "clip")[1]
    found = clip_text.open_texts(spec)(["cat a", "a"])
    module, params = encoders.load(*encoders.parse(spec))
    model = clip_text.load_tokenizer(tmp_path / "clip")
    apply = jax.jit(lambda t: module.apply({"params": params}, t)["text_embeds"])
    for row, text in zip(found, ("cat a", "a")):
        tokens = clip_text.encode(model, [text], 12)
        tokens[tokens == 0] = 5
        tokens[0, 0] = 0
        np.testing.assert_allclose(row, apply(jnp.asarray(tokens))[0], rtol=1e-4, atol=1e-5)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        clip_text.load_tokenizer(tmp_path)
    with pytest.raises(UserError, match="a weights file alone"):
        clip_text.load_tokenizer(None)
    with pytest.raises(UserError, match="text tower of CLIP"):
        clip_text.open_texts(tiny_towers.dino(tmp_path / "dino"))


def test_published_vocabulary_gives_the_published_ids(shared, tmp_path):
    with zipfile.ZipFile(shared / "weights_small.zip") as archive:
        data = archive.read("bpe_simple_vocab_16e6.txt.gz")
    write_openai_vocabulary(data, tmp_path)
    model = clip_text.load_tokenizer(tmp_path)
    for text, want in KNOWN.items():
        ids = clip_text.encode(model, [text], 77)[0]
        assert ids[: len(want) + 2].tolist() == [49406, *want, 49407], text
        assert not ids[len(want) + 2 :].any()


def write_openai_vocabulary(data, folder):
    """vocab.json and merges.txt as they follow from the list of merges."""
    lines = gzip.decompress(data).decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(i) for i in shown] + [chr(256 + i) for i in range(256 - len(shown))]
    names = letters + [v + "</w>" for v in letters] + ["".join(v.split()) for v in lines]
    names += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({v: i for i, v in enumerate(names)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n")
