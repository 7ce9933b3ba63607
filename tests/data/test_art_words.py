"""Adjectives: the data file, what measured pictures suggest, captions that are true and parse."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_jax.common.errors import UserError
from gen_jax.data.load.transforms import ArtCaptions
from gen_jax.data.prepare import caption_check
from gen_jax.data.text import art_attributes, art_words
from gen_jax.data.text.tokenizer import train_tokenizer

DARK = np.full((32, 32, 3), 20, np.uint8)


def test_the_vocabulary_is_whole():
    known = art_words.load()
    assert len(known.adjectives) >= 24
    assert {a.group for a in known.adjectives.values()} == {
        "light", "contrast", "colour", "hue", "texture", "shape", "order", "mood"
    }  # fmt: skip
    for adjective in known.adjectives.values():
        assert adjective.attribute in art_attributes.NAMES and adjective.spread > 0
        assert len(adjective.words) >= 3 and len(adjective.paraphrases) >= 2
        assert adjective.opposite in known.adjectives
        if adjective.group != "hue":
            assert known.adjectives[adjective.opposite].opposite == adjective.name


def test_captions_of_training_never_use_paraphrases():
    said = {w for text in art_words.vocabulary() for w in art_words.words_of(text)}
    assert {"dark", "very", "and"} <= said
    for adjective in art_words.load().adjectives.values():
        assert not said & set(adjective.paraphrases)


def test_a_word_for_two_adjectives_is_refused(tmp_path):
    found = json.loads(art_words.FILE.read_text())
    found["axes"][0]["low"]["words"].append("vivid")
    path = tmp_path / "words.json"
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match="'vivid' stands for dark and vivid"):
        art_words.load(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="no vocabulary"):
        art_words.load(path)


def test_suggestions_are_the_surest_first():
    values = art_attributes.measure(DARK)
    found = art_words.suggest(values)
    assert found["dark"] > 0.95 and found["muted"] > 0.95 and "bright" not in found
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert art_words.load().adjectives["dark"].confidence({"brightness": 0.30}) == 0.5


@given(seed=st.integers(0, 10_000))
def test_what_is_said_is_true_and_reads_back(seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    image = low.repeat(16, 0).repeat(16, 1) if rng.random() < 0.5 else DARK
    values = art_attributes.measure(image)
    true = art_words.suggest(values)
    names = [n for n in true if rng.random() < 0.4][:4]
    text = art_words.say({n: true[n] for n in names}, values, rng)
    asked, unknown = art_words.parse(text)
    assert not unknown and {a.name for a in asked} == set(names), text
    assert not art_words.contradictions(asked)
    if text:
        assert not list(caption_check._of_text(1, text)), text


def test_the_loader_says_what_it_shows():
    """A caption is of the crop as it was cut and turned, not of the record's whole picture."""
    image = np.concatenate([DARK, np.full_like(DARK, 250)], 1)  # left dark, right bright
    example = {"image": image, "captions": (), "label": -1, "attributes": {}}
    step = art_words.describe()
    seen = {"dark": 0, "bright": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        half = {**example, "image": image[:, :32] if seed % 2 else image[:, 32:]}
        asked, _ = art_words.parse(step(half, rng)["caption"])
        names = {a.name for a in asked}
        assert ("bright" if seed % 2 else "dark") not in names
        for name in seen:
            seen[name] += name in names
    assert min(seen.values()) > 3


def test_an_owners_caption_is_used_half_the_time():
    example = {"image": DARK, "captions": ("my own words",), "attributes": {}}
    step = art_words.describe()
    own = [step(example, np.random.default_rng(i))["caption"] == "my own words" for i in range(200)]
    assert 70 < sum(own) < 130
    plain = art_words.describe(train=False)(example, np.random.default_rng(0))
    assert plain["caption"] == "my own words"


def test_art_captions_become_tokens():
    tokenizer = train_tokenizer(art_words.vocabulary(), 400)
    example = {"image": DARK, "captions": (), "label": -1, "attributes": {}}
    make = ArtCaptions().build(16, train=False, tokenizer=tokenizer, max_length=32)
    out = make(example, np.random.default_rng(0))
    assert "dark" in tokenizer.decode(out["tokens"][out["token_mask"]])


def test_parse_suggests():
    asked, unknown = art_words.parse("Calm, deep blue, swirrling and gray!")
    assert [a.name for a in asked] == ["calm", "blue", "muted"]
    assert unknown["swirrling"][0] == "swirling"
    assert art_words.contradictions(art_words.parse("dark but bright")[0]) == [("dark", "bright")]
