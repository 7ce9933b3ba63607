"""Adjectives of pictures: which ones measured attributes suggest, and captions made of them.

Vocabulary and grammar are one data file, art_vocabulary.json, so that they can be read, argued
about and replaced. A caption is a list of phrases, each an adjective with a modifier or without:
"calm, deep blue, swirling", "a very dark and busy picture".
"""

import dataclasses
import difflib
import functools
import json
import math
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gen_jax.common import files
from gen_jax.common.errors import UserError
from gen_jax.data.text import art_attributes
from gen_jax.data.text.phrases import pick, with_article

FILE = pathlib.Path(__file__).with_name("art_vocabulary.json")
Example = dict[str, Any]

_LEAST = 0.6  # confidence of what a caption may state
_STATED = (0.1, 0.25, 0.3, 0.2, 0.15)  # chance of 0, 1, 2, ... adjectives in a caption of training
_MODIFIED = 0.3  # share of the adjectives with a modifier that is true of them
_SENTENCES = 4000  # that a tokenizer is trained on
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


@dataclasses.dataclass(frozen=True)
class Adjective:
    """One end of an attribute.

    Attributes:
      name: its first word, by which it is reported.
      attribute: of `art_attributes.NAMES`.
      sign: 1 where much of the attribute is meant, -1 where little.
      group: light, contrast, colour, hue, texture, shape, order or mood.
      limit: of the attribute, beyond which it is true with a confidence of a half.
      spread: of the attribute over which the confidence rises.
      words: that captions of training use.
      paraphrases: that mean the same and are never used in training.
      opposite: name of the adjective it is measured against.
    """

    name: str
    attribute: str
    sign: int
    group: str
    limit: float
    spread: float
    words: tuple[str, ...]
    paraphrases: tuple[str, ...]
    opposite: str

    def confidence(self, values: Mapping[str, float]) -> float:
        """How sure it is of a measured picture, 0 to 1; 0 where there is nothing to measure."""
        value = values[self.attribute]
        if math.isnan(value):
            return 0.0
        # `math`: it runs for every adjective of every picture of a batch.
        x = self.sign * (value - self.limit) / self.spread
        return 1.0 / (1.0 + math.exp(min(30.0, max(-30.0, -x))))


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What the data file says.

    Attributes:
      adjectives: by name.
      modifiers: word -> what must be true for it; see the file.
      nouns: of a picture.
      connectives: words that mean nothing by themselves.
      spellings: another spelling -> ours.
    """

    adjectives: Mapping[str, Adjective]
    modifiers: Mapping[str, Mapping[str, Any]]
    nouns: tuple[str, ...]
    connectives: tuple[str, ...]
    spellings: Mapping[str, str]

    @functools.cached_property
    def by_word(self) -> dict[str, Adjective]:
        """Word or paraphrase -> its adjective."""
        return {w: a for a in self.adjectives.values() for w in (*a.words, *a.paraphrases)}

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """Every word that a caption may have."""
        return frozenset((*self.by_word, *self.modifiers, *self.nouns, *self.connectives))


@functools.cache
def load(path: pathlib.Path = FILE) -> Vocabulary:
    """Reads the data file.

    Raises:
      UserError: it is not readable, or a word stands for two adjectives.
    """
    try:
        found = json.loads(files.read_text(path))
        adjectives = {a.name: a for a in _adjectives(found)}
        vocabulary = Vocabulary(
            adjectives,
            found["modifiers"],
            tuple(found["nouns"]),
            tuple(found["connectives"]),
            found["spellings"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: is no vocabulary of adjectives ({error!r})") from error
    seen: dict[str, str] = {}
    for adjective in adjectives.values():
        for word in (*adjective.words, *adjective.paraphrases):
            if word in seen:
                raise UserError(f"{path}: {word!r} stands for {seen[word]} and {adjective.name}")
            seen[word] = adjective.name
    return vocabulary


def _adjectives(found):
    hues = found["opposite_hues"]
    for axis in found["axes"]:
        ends = [(s, axis[k], axis[limit]) for s, k, limit in (
            (-1, "low", "below"), (1, "high", "above")) if k in axis]  # fmt: skip
        names = [end["words"][0] for _, end, _ in ends]
        for place, (sign, end, limit) in enumerate(ends):
            name = names[place]
            yield Adjective(
                name=name,
                attribute=axis["attribute"],
                sign=sign,
                group=axis["group"],
                limit=limit,
                spread=axis["spread"],
                words=tuple(end["words"]),
                paraphrases=tuple(end["paraphrases"]),
                opposite=names[1 - place] if len(names) > 1 else hues[name],
            )


def suggest(values: Mapping[str, float], least: float = _LEAST) -> dict[str, float]:
    """Adjectives that are true of a measured picture, with their confidence, the surest first."""
    known = load().adjectives.values()
    found = {a.name: a.confidence(values) for a in known}
    sure = [(name, c) for name, c in found.items() if c >= least]
    return dict(sorted(sure, key=lambda pair: -pair[1]))


def say(chosen: Mapping[str, float], values: Mapping[str, float], rng: np.random.Generator) -> str:
    """A caption that states these adjectives (with their confidence), each in one of its words."""
    if not chosen:
        return ""
    phrases = [_phrase(load().adjectives[name], c, values, rng) for name, c in chosen.items()]
    order = rng.permutation(len(phrases))
    phrases = [phrases[i] for i in order]
    if rng.random() < 0.5:
        return ", ".join(phrases)
    last = phrases.pop()
    adjectives = f"{', '.join(phrases)} and {last}" if phrases else last
    if rng.random() < 0.5:
        return adjectives
    return with_article(f"{adjectives} {pick(load().nouns, rng)}")


def _phrase(adjective, confidence, values, rng):
    word = pick(adjective.words, rng)
    if rng.random() >= _MODIFIED:
        return word
    true = [
        m for m, rule in load().modifiers.items() if _holds(rule, adjective, confidence, values)
    ]
    return f"{pick(true, rng)} {word}" if true else word


def _holds(rule, adjective, confidence, values):
    if rule["for"] not in ("any", adjective.group):
        return False
    value = values[rule["attribute"]] if "attribute" in rule else confidence
    low = rule.get("above", rule.get("confidence_above", -np.inf))
    high = rule.get("below", rule.get("confidence_below", np.inf))
    return low < value < high


def describe(train: bool = True) -> Callable[[Example, np.random.Generator], Example]:
    """A step of the loader, see `load.steps`: "caption" of the picture as it now is.

    Up to four of the adjectives that are true of it, now and then none; in training one that its
    owner wrote instead, half the time, where there is one. Otherwise the four surest, plainly.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        own = example.get("captions")
        values = art_attributes.measure(np.ascontiguousarray(example["image"]))
        true = suggest(values)
        if not train:
            text = own[0] if own else ", ".join(list(true)[: len(_STATED) - 1])
        elif own and rng.random() < 0.5:
            text = pick(own, rng)
        else:
            count = min(int(rng.choice(len(_STATED), p=_STATED)), len(true))
            names = [list(true)[i] for i in rng.choice(len(true), count, replace=False)]
            text = say({name: true[name] for name in names}, values, rng)
        return {**example, "caption": text}

    return run


def vocabulary() -> list[str]:
    """Captions of all kinds, for a tokenizer to be trained on."""
    known = load()
    words = {w for a in known.adjectives.values() for w in a.words}
    words |= {*known.modifiers, *known.nouns, *known.connectives}
    rng, found = np.random.default_rng(0), {" ".join(sorted(words))}
    names = list(load().adjectives)
    for _ in range(_SENTENCES):
        chosen = rng.choice(names, int(rng.integers(1, 5)), replace=False)
        values = {name: float(rng.random()) for name in art_attributes.NAMES}
        found.add(say({str(n): float(rng.uniform(0.6, 1.0)) for n in chosen}, values, rng))
    return sorted(found)


def parse(text: str) -> tuple[list[Adjective], dict[str, list[str]]]:
    """What a prompt asks for, and its unknown words, each with known ones that look like it."""
    known, asked, unknown = load(), [], {}
    for word in words_of(text):
        word = known.spellings.get(word, word)
        if word in known.by_word:
            asked.append(known.by_word[word])
        elif word not in known.words:
            unknown[word] = difflib.get_close_matches(word, sorted(known.by_word), n=3, cutoff=0.6)
    return asked, unknown


def meant(alike: list[str]) -> str:
    """The end of a sentence about an unknown word, "" where nothing looks like it."""
    return f"; did you mean {' or '.join(alike)}?" if alike else ""


def words_of(text: str) -> list[str]:
    """Its words, in small letters."""
    return _WORD.findall(text.lower())


def contradictions(adjectives: list[Adjective]) -> list[tuple[str, str]]:
    """Pairs of names that are opposite ends of one attribute."""
    found = []
    for i, a in enumerate(adjectives):
        found += [
            (a.name, b.name)
            for b in adjectives[i + 1 :]
            if a.attribute == b.attribute and a.sign != b.sign
        ]
    return found
