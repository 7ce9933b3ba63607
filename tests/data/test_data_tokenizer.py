import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_jax.common.errors import UserError
from gen_jax.data.text import tokenizer as tok
from gen_jax.data.text import tokenizer_file

CAPTIONS = ["a red circle on a white background", "a blue square", "two green stars"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return tok.train_tokenizer(CAPTIONS, 320)


def test_layout(tokenizer):
    ids, mask, truncated = tokenizer.encode(["A red CIRCLE", ""], 12)
    assert ids.shape == mask.shape == (2, 12)
    assert ids.dtype == np.int32 and mask.dtype == bool
    assert ids[1, :3].tolist() == [tok.CompactTokenizer.bos_id, tok.CompactTokenizer.eos_id, 0]
    assert mask.sum(1).tolist() == [(ids[0] != 0).sum(), 2]
    assert not truncated.any()
    assert tokenizer.decode(ids[0]) == "a red circle"


def test_words_that_no_caption_has_are_unknown(tokenizer):
    assert tokenizer.unknown_words("A red zorp, blue! Zorp: stars") == ["zorp", "Zorp"]
    assert tokenizer.unknown_words("  ") == []


def test_truncation_keeps_eos(tokenizer):
    ids, mask, truncated = tokenizer.encode(["a red circle on a white background " * 9], 8)
    assert ids[0, -1] == tok.CompactTokenizer.eos_id
    assert mask.all() and truncated.all()
    with pytest.raises(UserError, match="max_length=1"):
        tokenizer.encode(["a"], 1)


@given(st.text())
def test_every_script_survives(text):
    tokenizer = tok.train_tokenizer(CAPTIONS, 300)
    found = tokenizer.encode([text], 4 * max(1, len(text.encode("utf-8", "replace"))) + 2)
    assert not found.truncated.any()
    import unicodedata

    expected = unicodedata.normalize("NFC", text)
    assert tokenizer.decode(found.ids[0]).casefold() == expected.lower().casefold()


def test_marks_of_our_own_are_plain_text_in_a_prompt(tokenizer):
    ids = tokenizer.encode(["<eos> <pad> <bos>"], 40).ids[0]
    assert (ids == tok.CompactTokenizer.eos_id).sum() == 1
    assert tokenizer.decode(ids) == "<eos> <pad> <bos>"


@pytest.mark.parametrize("text", ["x" * 10_000, "🎉" * 10_000, "a red circle " * 800, "\ud83d"])
def test_odd_prompts_are_quick(tokenizer, text):
    start = time.perf_counter()
    found = tokenizer.encode([text], 77)
    assert time.perf_counter() - start < 1.0
    assert found.truncated[0] == (len(text) > 1)


def test_training_does_not_depend_on_the_order_and_files_round_trip(tokenizer, tmp_path):
    again = tok.train_tokenizer(CAPTIONS[::-1], 320)
    assert again.to_json() == tokenizer.to_json()
    tokenizer.save(tmp_path / "run" / "tokenizer.json")
    loaded = tokenizer_file.load(tmp_path / "run" / "tokenizer.json")
    assert np.array_equal(loaded.encode(CAPTIONS, 9).ids, tokenizer.encode(CAPTIONS, 9).ids)
    assert 259 < loaded.vocab_size <= 320


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UserError, match="vocab_size=100: at least 259"):
        tok.train_tokenizer(CAPTIONS, 100)
    with pytest.raises(UserError, match="no tokenizer here"):
        tokenizer_file.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UserError, match="is not a tokenizer's JSON"):
        tokenizer_file.load(tmp_path / "bad.json")
