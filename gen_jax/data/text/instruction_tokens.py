"""Clauses of an instruction: words in base form, between punctuation and conjunctions."""

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Sequence

from gen_jax.data.text import instruction_words as words

_BREAKS = words.as_set(", ; . : ! ? and or nor but while yet however although though then")
# After one of these, "not" belongs to a verb that follows: "the noise should not be removed".
_MODALS = words.as_set("should must is are was can could may might need ought will shall to")
_SHORT_FORMS = (("can't", "can not"), ("cannot", "can not"), ("won't", "will not"), ("n't", " not"))
_MISSPELLED_NOT = re.compile(r"\b(do|does|did|is|are|was|should|must|would)nt\b")
_TOKEN = re.compile(r"\d+(?:\.\d+)?%|\w+(?:'\w+)?|[,;.:!?]")
_CONTENT = frozenset().union(
    words.FAULTS, words.DESCRIPTIONS, words.GOALS, words.ACTIONS, words.REMOVE, words.RESTORE,
    words.KEEP, words.ALL, words.CHANGE, words.HARM, *words.UNSUPPORTED.values(),
)  # fmt: skip
KNOWN = _CONTENT.union(
    words.WISH,
    words.ADD,
    words.MORE,
    words.BECOME,
    words.NEGATIONS,
    words.REST,
    words.AMOUNTS,
    words.FILLERS,
    _BREAKS,
)


@dataclasses.dataclass
class Clause:
    """Tokens between two breaks.

    Attributes:
      tokens: Words in their base form.
      opening: The word that begins the clause, such as "but", or "".
    """

    tokens: list[str]
    opening: str = ""

    def has(self, *groups) -> bool:
        """Returns whether a word is in one of the groups."""
        return any(token in group for token in self.tokens for group in groups)

    def kinds(self, *groups) -> list[str]:
        """Returns the degradations that words of the groups name."""
        return [group[token] for token in self.tokens for group in groups if token in group]

    @property
    def unsupported(self) -> dict[str, str]:
        """Word -> what it belongs to that the restorer does not do."""
        return {
            token: label
            for token in self.tokens
            for label, group in words.UNSUPPORTED.items()
            if token in group
        }

    @property
    def unknown(self) -> list[str]:
        """Words that are in no table."""
        return [t for t in self.tokens if t not in KNOWN and not t[0].isdigit()]


def _tokens(instruction: str) -> list[str]:
    """Returns base forms of the words, with phrases replaced and punctuation kept."""
    text = unicodedata.normalize("NFKC", instruction).lower().replace("\u2019", "'")
    text = _MISSPELLED_NOT.sub(r"\1 not", text)
    for short, long in _SHORT_FORMS:
        text = text.replace(short, long)
    text = re.sub(r"(\w+)-(\w+)", _joined, text).replace("w/o", "without")
    tokens = [_base(token) for token in _TOKEN.findall(text)]
    out: list[str] = []
    while tokens:
        if tokens[0] in words.SEPARABLE and _has_particle(tokens[1:]):
            tokens[0] = "remove"
        for phrase, meaning in _PHRASES:
            if tokens[: len(phrase)] == phrase:
                # What a phrase is read as may begin another phrase.
                out += meaning
                tokens = tokens[len(phrase) :]
                break
        else:
            out.append(tokens.pop(0))
    return out


def _has_particle(tokens: Sequence[str]) -> bool:
    """Returns whether "out" or the like follows a degradation: "take the grain out"."""
    has_fault = False
    for token in tokens:
        if token in _BREAKS or token in words.NEGATIONS:
            return False
        if token in words.PARTICLES:
            return has_fault
        has_fault = has_fault or token in words.FAULTS
    return False


def _joined(match: re.Match) -> str:
    """Returns a hyphenated word as one word if a table has it, else as two."""
    one = match[1] + match[2]
    return one if _base(one) in KNOWN else f"{match[1]} {match[2]}"


def _base(word: str) -> str:
    """Returns the form of a word that is in a table, or the word."""
    if word in KNOWN:
        return word
    word = word.removesuffix("'s")
    for ending, others in _ENDINGS:
        if not word.endswith(ending) or len(word) < len(ending) + 3:
            continue
        stem = word.removesuffix(ending)
        stems = [stem + other for other in others]
        if stem[-1] == stem[-2]:  # "cropped"
            stems.append(stem[:-1])
        for candidate in stems:
            if candidate in KNOWN:
                return candidate
    return word


def clauses(instruction: str) -> Iterator[Clause]:
    """Yields the clauses of an instruction.

    They end at punctuation, at conjunctions and before negations that begin something else.

    Args:
      instruction: English text of any length.
    """
    clause = Clause([])
    for token in _tokens(instruction):
        if token in _BREAKS:
            if clause.tokens:
                yield clause
                clause = Clause([], token)
            elif token not in ",;.:!?":
                clause.opening = token
            continue
        is_turn = token in words.NEGATIONS and clause.has(_CONTENT)
        if is_turn and clause.tokens[-1] not in _MODALS and not clause.has(words.NEGATIONS):
            # "do" of "denoise do not sharpen" goes with what follows.
            yield clause
            clause = Clause([])
        clause.tokens.append(token)
    if clause.tokens:
        yield clause


_ENDINGS = (
    ("ing", ("", "e")), ("ed", ("", "e")), ("es", ("", "e")), ("s", ("",)), ("er", ("", "e")),
    ("est", ("", "e")), ("ly", ("",)), ("y", ("",)), ("ation", ("e", "")), ("ness", ("",)),
)  # fmt: skip
_PHRASES = [
    ([_base(word) for word in phrase.split()], meaning.split())
    for phrase, meaning in sorted(words.PHRASES.items(), key=lambda item: -len(item[0].split()))
]
