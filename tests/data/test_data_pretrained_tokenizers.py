"""CLIP's and BERT's tokenizers: against the originals' ids, and on vocabularies made up here."""

import gzip
import json
import zipfile

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data.text import clip_tokenizer, tokenizer_file
from gen_jax.data.text.clip_tokenizer import ClipTokenizer
from gen_jax.data.text.tokenizer import train_tokenizer
from gen_jax.data.text.wordpiece_tokenizer import WordPieceTokenizer
from tests.tiny_text import CLIP_MERGES, WORDPIECES, clip_folder, golden_script

GOLDEN = golden_script("make_tokenizers")


@pytest.fixture(scope="module")
def vocabularies(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabularies")
    with zipfile.ZipFile(shared / "weights_small.zip") as archive:
        for name in (GOLDEN.CLIP_FILE, GOLDEN.BERT_FILE):
            archive.extract(name, folder)
    return folder


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN.HERE / "tokenizers.npz"))


def check(tokenizer, golden, name):
    """Ids of all strings, cut to CLIP's length; ids of the long ones, uncut."""
    short = GOLDEN.read_strings(golden)
    assert len(short) == GOLDEN.COUNT == len(set(short))
    want = GOLDEN.unpack(golden[name], golden[f"{name}_lengths"])
    ids, mask, _ = tokenizer.encode(short, GOLDEN.LENGTH)
    have = [row[real].tolist() for row, real in zip(ids, mask)]
    wrong = [text for text, a, b in zip(short, have, want) if a != b]
    assert not wrong, (len(wrong), wrong[:5])
    long = GOLDEN.long_strings(short)
    found = tokenizer.encode(long, 4 * GOLDEN.LONG + 2)
    assert all(len(text) == GOLDEN.LONG for text in long) and not found.truncated.any()
    digests = [GOLDEN.digest(row[real].tolist()) for row, real in zip(found.ids, found.mask)]
    assert digests == golden[f"{name}_digests"].tolist()
    print(f"{name}: {len(short)} strings and {len(long)} of {GOLDEN.LONG} characters agree")


def test_clip_ids_are_those_of_open_clip(vocabularies, golden, tmp_path):
    tokenizer = ClipTokenizer.find(vocabularies / GOLDEN.CLIP_FILE, pad_id=0)
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id) == (49408, 49406, 49407)
    check(tokenizer, golden, "clip")
    tokenizer.save(tmp_path / "tokenizer.json")
    again = tokenizer_file.load(tmp_path / "tokenizer.json")
    assert isinstance(again, ClipTokenizer) and again.digest == tokenizer.digest
    assert again.pad_id == 0


def test_bert_ids_are_those_of_transformers(vocabularies, golden):
    tokenizer = WordPieceTokenizer.find(vocabularies / GOLDEN.BERT_FILE)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (101, 102, 0)
    check(tokenizer, golden, "bert")


def test_clip_merges_by_rank_and_marks_the_end_of_words(tmp_path):
    (tmp_path / "merges.txt").write_text(CLIP_MERGES)
    tokenizer = ClipTokenizer.find(tmp_path / "merges.txt")
    # 256 bytes, 256 that end a word, "ca", "cat</w>", the marks.
    assert tokenizer.vocab_size == 516 and (tokenizer.bos_id, tokenizer.eos_id) == (514, 515)
    ids, mask, truncated = tokenizer.encode(["  CAT &amp; ca"], 7)
    c, a_end, ampersand_end = (sorted(alphabet()).index(x) for x in "ca&")
    assert ids[0].tolist() == [514, 513, 256 + ampersand_end, c, 256 + a_end, 515, 515]
    assert mask[0].tolist() == [True] * 6 + [False] and not truncated[0]
    assert tokenizer.decode(ids[0]) == "cat & ca"
    cut = tokenizer.encode(["cat cat cat"], 4)
    assert cut.ids[0].tolist() == [514, 513, 513, 515] and cut.truncated[0] and cut.mask.all()
    assert tokenizer.encode([""], 4).ids[0].tolist() == [514, 515, 515, 515]


def alphabet():
    import tokenizers

    return tokenizers.pre_tokenizers.ByteLevel.alphabet()


@pytest.mark.parametrize("layout", ["tokenizer.json", "vocab.json", "gz", "beside"])
def test_clip_vocabularies_in_every_layout_give_the_same_ids(tmp_path, layout):
    texts = ["a cat's <end_of_text>", "<|endoftext|>", "Ã©"]
    clip_folder(tmp_path / "tokenizer")
    here = tmp_path / "tokenizer"
    want = ClipTokenizer.find(here)
    if layout == "tokenizer.json":
        want.save(tmp_path / "x" / "tokenizer.json")
        # As Hugging Face wrote them for years: merges as strings, no padding.
        parsed = json.loads((tmp_path / "x" / "tokenizer.json").read_text())
        parsed["model"]["merges"] = [" ".join(pair) for pair in parsed["model"]["merges"]]
        parsed["padding"] = None
        (tmp_path / "x" / "tokenizer.json").write_text(json.dumps(parsed))
        here = tmp_path / "x"
    elif layout == "gz":
        here = tmp_path / clip_tokenizer.FILES[-1]
        here.write_bytes(gzip.compress(CLIP_MERGES.encode()))
    elif layout == "beside":  # diffusers' folders
        here = tmp_path / "text_encoder"
        here.mkdir()
    got = ClipTokenizer.find(here)
    if layout == "gz":  # OpenCLIP spells the marks otherwise
        assert want.encode(texts[:1], 40).ids.tolist() != got.encode(texts[:1], 40).ids.tolist()
        texts = texts[2:]
    a, b = want.encode(texts, 40), got.encode(texts, 40)
    assert a.ids.tolist() == b.ids.tolist() and got.eos_id == got.pad_id == 515
    assert ClipTokenizer.find(here, pad_id=0).encode([""], 3).ids[0].tolist() == [514, 515, 0]


def test_wordpieces_and_their_options(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDPIECES) + "\n")
    tokenizer = WordPieceTokenizer.find(tmp_path)
    ids, mask, _ = tokenizer.encode(["A CÁTS, dog [SEP]", ""], 9)
    assert [WORDPIECES[i] for i in ids[0]] == [
        "[CLS]", "a", "cat", "##s", ",", "[UNK]", "[SEP]", "[SEP]", "[PAD]",
    ]  # fmt: skip
    assert mask.sum(axis=1).tolist() == [8, 2]
    assert tokenizer.decode(ids[0]) == "a cats,"
    tokenizer.save(tmp_path / "run" / "tokenizer.json")
    again = tokenizer_file.load(tmp_path / "run" / "tokenizer.json")
    assert isinstance(again, WordPieceTokenizer)
    assert again.encode(["a \ud800 cat"], 9).ids.tolist()[0][:3] == [2, 4, 1]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = WordPieceTokenizer.find(tmp_path)
    assert [WORDPIECES[i] for i in cased.encode(["A cats"], 5).ids[0]][1:4] == [
        "[UNK]", "cat", "##s",
    ]  # fmt: skip


def test_every_kind_is_known_again(tmp_path):
    compact = train_tokenizer(["a cat"], 300)
    clip = clip_folder(tmp_path / "clip")
    for tokenizer in (compact, clip):
        tokenizer.save(tmp_path / "tokenizer.json")
        again = tokenizer_file.load(tmp_path / "tokenizer.json")
        assert type(again) is type(tokenizer) and again.digest == tokenizer.digest
    assert compact.digest != clip.digest


def test_mistakes_are_told_with_the_file(tmp_path):
    def refused(found, content, words):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(UserError, match=words) as error:
            found(tmp_path / "file")
        assert str(tmp_path / "file") in str(error.value)

    merges = tmp_path / "m"
    merges.mkdir()
    for find in (ClipTokenizer.find, WordPieceTokenizer.find):
        with pytest.raises(
            UserError, match=r"m: holds no vocabulary; expected a folder with token"
        ):
            find(merges)
        with pytest.raises(UserError, match="no such file or folder"):
            find(tmp_path / "nowhere" / "x")
    refused(WordPieceTokenizer.find, b"a\nb\n", r"lacks \[UNK\]")
    refused(WordPieceTokenizer.find, b"a\n[UNK]\n", r"lacks \[CLS\], \[SEP\], \[PAD\]")
    refused(WordPieceTokenizer.find, b"\xff\xfe", "no text in UTF-8")
    refused(ClipTokenizer.find, b"{}", "holds no vocabulary with merges")
    refused(ClipTokenizer.find, b"nothing", "is not a tokenizer's JSON")
    (merges / "merges.txt").write_text("#version\nc a t\n")
    with pytest.raises(UserError, match=r"merges.txt: 'c a t' is no pair"):
        ClipTokenizer.find(merges / "merges.txt")
    (merges / "vocab.json").write_text('{"a": 0}')
    (merges / "merges.txt").write_text("#version\nc a\n")
    with pytest.raises(UserError, match=r"vocab.json: the vocabulary has neither"):
        ClipTokenizer.find(merges)
    bpe = merges / clip_tokenizer.FILES[-1]
    bpe.write_bytes(b"\x1f\x8b damaged")
    with pytest.raises(UserError, match="cannot be unpacked"):
        ClipTokenizer.find(bpe)
