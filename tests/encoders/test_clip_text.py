"""Texts in CLIP's joint space; its tokenizer has tests of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import encoders
from gen_jax.common.errors import UserError
from gen_jax.data.text.clip_tokenizer import ClipTokenizer
from gen_jax.encoders import clip_text
from tests import tiny_towers


def test_embeddings_are_the_towers_whatever_stands_behind_the_end(tmp_path):
    spec = tiny_towers.clip(tmp_path / "clip")[1]
    found = clip_text.open_texts(spec)(["cat a", "a"])
    module, params = encoders.load(*encoders.parse(spec))
    tokenizer = ClipTokenizer.find(tmp_path / "clip")
    apply = jax.jit(lambda t: module.apply({"params": params}, t)["text_embeds"])
    for row, text in zip(found, ("cat a", "a")):
        encoded = tokenizer.encode([text], 12)
        tokens = np.where(encoded.mask, encoded.ids, 5)
        np.testing.assert_allclose(row, apply(jnp.asarray(tokens))[0], rtol=1e-4, atol=1e-5)


def test_mistakes_are_named(tmp_path):
    spec = tiny_towers.clip(tmp_path / "clip")[1]
    (tmp_path / "clip" / "vocab.json").unlink()
    with pytest.raises(UserError, match=r"holds no vocabulary; expected a folder with tokenizer"):
        clip_text.open_texts(spec)
    with pytest.raises(UserError, match="text tower of CLIP"):
        clip_text.open_texts(tiny_towers.dino(tmp_path / "dino"))
