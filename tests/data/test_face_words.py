"""Facts of faces, and sentences about them."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from gen_jax.data.text import face_words

FACTS = st.fixed_dictionaries(
    {}, optional={k: st.sampled_from(v) for k, v in face_words.ATTRIBUTES.items()}
)
# Of each fact, words that all its sentences have one of, and words that none has.
SIGNS = {
    ("gender", "man"): ({"man", "male", "gentleman"}, {"woman", "female", "lady"}),
    ("gender", "woman"): ({"woman", "female", "lady"}, {"man", "male", "gentleman"}),
    ("expression", "smiling"): (
        {"smiling", "happy", "cheerful", "laughing", "smile", "smiles"},
        {"surprised", "surprise", "amazed", "astonished", "serious", "neutral", "calm", "not"},
    ),
    ("expression", "surprised"): (
        {"surprised", "surprise", "amazed", "astonished"},
        {"smiling", "happy", "smile", "smiles", "neutral"},
    ),
    ("glasses", "with"): ({"glasses", "spectacles"}, {"no", "without"}),
    ("glasses", "without"): ({"no", "without"}, set()),
}


def words_of(text):
    return set(text.replace(",", " ").replace("'s", "").split())


@hypothesis.given(FACTS, st.integers(0, 1000))
def test_a_sentence_states_its_facts_and_nothing_else(facts, seed):
    text = face_words.say(facts, np.random.default_rng(seed))
    words = words_of(text)
    assert text == text.strip() and "  " not in text
    for (name, value), (some, none) in SIGNS.items():
        if facts.get(name) == value:
            assert words & some and not words & none, text
        elif name not in facts:
            assert not words & some, text


def test_there_are_paraphrases_and_the_contract_s_own_words():
    said = set(face_words.vocabulary())
    assert len(said) > 1000
    assert {"a face", "a face with glasses", "a surprised face", "a man's face"} <= said


def test_facts_are_read_and_written_in_one_order():
    facts = face_words.facts_of(
        {"glasses": "with", "gender": "man", "hair": "red", "expression": 3}
    )
    assert facts == {"gender": "man", "glasses": "with"}
    np.testing.assert_array_equal(face_words.as_vector(facts), [0, -1, 1])
    np.testing.assert_array_equal(face_words.as_vector({}), [-1, -1, -1])


def test_a_training_example_is_asked_for_some_of_what_is_known():
    known = {"gender": "woman", "expression": "smiling", "glasses": "with"}
    example, rng = {"attributes": known}, np.random.default_rng(0)
    found = [face_words.describe()(example, rng) for _ in range(200)]
    asked = np.stack([one["asked"] for one in found])
    np.testing.assert_array_equal(found[0]["facts"], [1, 1, 1])
    assert ((asked == 1) | (asked == face_words.UNKNOWN)).all()
    assert (asked == 1).mean() == pytest.approx(0.6, abs=0.1)
    assert len({one["caption"] for one in found}) > 50
    held_out = face_words.describe(train=False)(example, rng)
    np.testing.assert_array_equal(held_out["asked"], held_out["facts"])
