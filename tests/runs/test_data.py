"""The data of a run: a tokenizer only if the task reads text."""

import pytest

from gen_jax.common.errors import UserError
from gen_jax.runs import data as run_data
from gen_jax.runs import layout

CONFIG = dict(image_size=16, num_threads=1, vocab_size=300, max_length=8)


def test_there_is_a_tokenizer_only_if_tokens_are_read(photos, tmp_path):
    values = CONFIG | dict(dir=str(photos))
    without = run_data.open_data(values, tmp_path, 0, reads=("image",))
    assert not (tmp_path / layout.TOKENIZER).exists()
    assert without.vocab_size == 0 and set(without.facts()) == {"fingerprint", "shards"}
    assert set(without.read("val", 4)) == {"image", "label", "index"}
    with pytest.raises(UserError, match="without a tokenizer, because the task reads no text"):
        without.tokenize(["a cat"])
    with_text = run_data.open_data(values, tmp_path, 0, reads=("image", "tokens", "token_mask"))
    assert (tmp_path / layout.TOKENIZER).exists() and 259 < with_text.vocab_size <= 300
    assert with_text.facts()["tokenizer_sha256"] == with_text.tokenizer.digest
    assert with_text.read("val", 4)["tokens"].shape == (4, 8)
    # The tokenizer of an earlier version's run stays unused.
    assert run_data.open_data(values, tmp_path, 0, reads=("image",)).tokenizer is None


def test_images_do_not_depend_on_the_tokenizer(photos, tmp_path):
    values = CONFIG | dict(dir=str(photos))
    opened = [run_data.open_data(values, tmp_path, 3, reads=r) for r in ((), ("tokens",))]
    for _ in range(2):
        one, two = (next(data.batches(4, 0)) for data in opened)
        assert (one["image"] == two["image"]).all() and (one["index"] == two["index"]).all()
        assert "tokens" in two and "tokens" not in one
