"""What can be said of a face, in words: facts, and sentences that state some of them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int8

from gen_jax.data.text.phrases import pick, with_article

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "gender": ("man", "woman"),
    "expression": ("neutral", "smiling", "surprised"),
    "glasses": ("without", "with"),
}
"""Name of an attribute of a record -> its values; a record without one is one of whom it is not
known."""

Example = dict[str, Any]

UNKNOWN = -1
"""In a vector: not known of a face, or not asked for by a sentence."""

_NOUNS = {
    "": ("person", "human"),
    "man": ("man", "man", "male", "gentleman"),
    "woman": ("woman", "woman", "female", "lady"),
}
_ADJECTIVES = {
    "neutral": ("neutral", "serious", "calm", "unsmiling"),
    "smiling": ("smiling", "happy", "cheerful", "laughing"),
    "surprised": ("surprised", "astonished", "amazed"),
}
_EXPRESSIONS = {
    "neutral": ("with a neutral expression", "looking serious", "not smiling"),
    "smiling": ("with a smile", "with a big smile", "who smiles"),
    "surprised": ("looking surprised", "with a surprised look", "full of surprise"),
}
_GLASSES = {
    "with": ("with glasses", "wearing glasses", "with spectacles", "who wears glasses"),
    "without": ("without glasses", "wearing no glasses", "with no spectacles"),
}
_WORDS = {"with": "glasses", "without": "no glasses"}
_FRAMES = ("{}'s face", "the face of {}", "a photo of {}", "a portrait of {}", "a picture of {}")
_ASKED = 0.6  # of what is known, the share that a sentence of training states
_BARE = 0.15  # of sentences, those that are words in a row
_SENTENCES = 4000  # that a tokenizer is trained on


def facts_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The attributes of a record that are facts of a face, in the order of `ATTRIBUTES`."""
    return {
        name: attributes[name]
        for name, values in ATTRIBUTES.items()
        if attributes.get(name) in values
    }


def as_vector(facts: Mapping[str, str]) -> Int8[np.ndarray, " a"]:
    """Index of the value of each attribute, -1 where it is not among the facts."""
    found = [
        values.index(facts[name]) if name in facts else UNKNOWN
        for name, values in ATTRIBUTES.items()
    ]
    return np.array(found, np.int8)


def some_of(facts: Mapping[str, str], rng: np.random.Generator) -> dict[str, str]:
    """Those that a sentence of training states; now and then none."""
    return {name: value for name, value in facts.items() if rng.random() < _ASKED}


def say(facts: Mapping[str, str], rng: np.random.Generator) -> str:
    """A sentence that states the facts and nothing else: "a smiling man's face with glasses"."""
    gender, feeling, glasses = (facts.get(name, "") for name in ATTRIBUTES)
    if facts and rng.random() < _BARE:
        words = [gender, feeling, _WORDS.get(glasses, "")]
        return ", ".join(word for word in words if word)
    before, after = "", []
    if feeling and rng.random() < 0.6:
        before = pick(_ADJECTIVES[feeling], rng) + " "
    elif feeling:
        after.append(pick(_EXPRESSIONS[feeling], rng))
    if glasses:
        after.append(pick(_GLASSES[glasses], rng))
    if not gender and rng.random() < 0.6:
        subject = with_article(f"{before}face")
    else:
        subject = with_article(before + pick(_NOUNS[gender], rng))
        subject = pick((*_FRAMES, "{}"), rng).format(subject)
    return " ".join([subject, " and ".join(after)]).strip()


def describe(train: bool = True) -> Callable[[Example, np.random.Generator], Example]:
    """A step of the loader, see `load.steps`.

    It sets "caption", a sentence of some of the facts in "attributes" (all of them where not in
    training), "facts", what is known, and "asked", what the sentence states, both int8 [a] as
    `as_vector` writes them.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        facts = facts_of(example["attributes"])
        stated = some_of(facts, rng) if train else facts
        return {
            **example,
            "caption": say(stated, rng),
            "facts": as_vector(facts),
            "asked": as_vector(stated),
        }

    return run


def vocabulary() -> list[str]:
    """Sentences of all kinds, for a tokenizer to be trained on."""
    rng, found = np.random.default_rng(0), {"a face"}
    for _ in range(_SENTENCES):
        facts = {name: pick(values, rng) for name, values in ATTRIBUTES.items()}
        found.add(say(some_of(facts, rng), rng))
    return sorted(found)
