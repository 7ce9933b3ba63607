"""Are the captions of a folder fit to train on? Words, grammar, repeats, agreement and truth.

docs/annotation.md has the rules that annotators follow.
"""

import dataclasses
import itertools
import pathlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Shaped

from gen_jax.common.errors import UserError
from gen_jax.data import images
from gen_jax.data.text import art_attributes, art_words, captions

LEAST_SEEN = 5  # captions that an adjective wants
LEAST_KAPPA = 0.6  # "substantial" in Landis and Koch (Biometrics 33, 1977)
_CONTRADICTED = 0.1  # confidence below which a picture contradicts an adjective
_SPLIT = re.compile(r"\s*(?:,|\band\b|\bbut\b)\s*")


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something wrong: which line (0 for the whole file), what kind, and the words for it."""

    line: int
    kind: str
    message: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What `check` found.

    Attributes:
      findings: in the order of the lines.
      coverage: adjective -> captions that have it.
      kappa: pair of annotators -> (agreement, pictures that both described).
      lines: that were read.
    """

    findings: tuple[Finding, ...]
    coverage: dict[str, int]
    kappa: dict[tuple[str, str], tuple[float, int]]
    lines: int


def check(path: str | pathlib.Path) -> Report:
    """Checks a captions.jsonl and the pictures beside it.

    A line may name its "annotator"; pictures that several described show how far they agree.

    Args:
      path: the file, or its folder.

    Raises:
      UserError: it cannot be read, or a line is no caption at all.
    """
    path = pathlib.Path(path)
    path = path / captions.FILE if path.is_dir() else path
    lines = list(captions.lines(path))
    there = _by_form(path.parent, {line.file for line in lines})
    if not lines:
        raise UserError(f"{path}: has no line; write one for each picture, see docs/annotation.md")
    findings, coverage = [], Counter()
    seen: dict[tuple[str, str, str], int] = {}
    measured: dict[str, dict[str, float] | None] = {}
    for line in lines:
        if line.file not in measured:
            measured[line.file] = _measured(there[line.file])
            if measured[line.file] is None:
                findings.append(Finding(line.line, "file", f"{line.file} cannot be read"))
        for text in line.captions:
            key = (line.file, text.lower(), str(line.attributes.get("annotator", "")))
            if key in seen:
                message = f"{text!r} stands on line {seen[key]} already"
                findings.append(Finding(line.line, "duplicate", message))
            seen.setdefault(key, line.line)
            asked, _ = art_words.parse(text)
            coverage.update({a.name for a in asked})
            findings += _of_text(line.line, text)
            findings += _untrue(line.line, asked, measured[line.file])
    counts = {name: coverage[name] for name in art_words.load().adjectives}
    if rare := [f"{name} ({count})" for name, count in counts.items() if count < LEAST_SEEN]:
        message = f"in fewer than {LEAST_SEEN} captions, too few to learn: {', '.join(rare)}"
        findings.append(Finding(0, "coverage", message))
    kappa = _agreement(lines)
    for (a, b), (value, count) in kappa.items():
        if value < LEAST_KAPPA:
            message = f"{a} and {b} agree by kappa {value:.2f} on {count} pictures"
            findings.append(Finding(0, "agreement", f"{message}; {LEAST_KAPPA} is the least"))
    ordered = sorted(findings, key=lambda f: (f.line == 0, f.line))
    return Report(tuple(ordered), counts, kappa, len(lines))


def _by_form(folder: pathlib.Path, written: set[str]) -> dict[str, pathlib.Path]:
    """Finds the file of each name, whose letters may be composed on one side alone."""
    found = {}
    for name in written:
        forms = [folder / unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
        found[name] = next((path for path in (folder / name, *forms) if path.exists()), forms[0])
    return found


def _of_text(line: int, text: str) -> Iterator[Finding]:
    asked, unknown = art_words.parse(text)
    for word, alike in unknown.items():
        yield Finding(line, "unknown word", f"{word!r}{art_words.meant(alike)}")
    for a, b in art_words.contradictions(asked):
        yield Finding(line, "opposites", f"{a} and {b} in one caption")
    if not unknown:
        for message in _ungrammatical(text):
            yield Finding(line, "grammar", message)


def _ungrammatical(text: str) -> Iterator[str]:
    """What is wrong with a caption of known words: phrases of (modifier) adjective (noun)."""
    known = art_words.load()
    for phrase in _SPLIT.split(text.lower().strip(" .")):
        words = [known.spellings.get(w, w) for w in art_words.words_of(phrase)]
        words = [w for w in words if w not in known.connectives]
        if not words:
            yield f"a phrase without a word in {text!r}"
            continue
        while words and words[-1] in known.nouns:
            words.pop()
        *modifiers, last = words or [""]
        if last not in known.by_word:
            yield f"{phrase!r} has no adjective at its end"
            continue
        for word in modifiers:
            rule = known.modifiers.get(word)
            if rule is None:
                if word not in known.by_word:
                    yield f"{word!r} does not go before {last!r}"
            elif rule["for"] not in ("any", known.by_word[last].group):
                yield f"{word!r} goes before a {rule['for']} alone, not {last!r}"


def _untrue(line: int, asked, values) -> Iterator[Finding]:
    for adjective in asked if values else ():
        if adjective.confidence(values) < _CONTRADICTED:
            value = values[adjective.attribute]
            side = "above" if adjective.sign > 0 else "below"
            wanted = f"{adjective.attribute} is {value:.2f}, expected {side} {adjective.limit:g}"
            if np.isnan(value):
                wanted = f"there is too little to see to tell its {adjective.attribute}"
            yield Finding(line, "contradicted", f"{adjective.name}: {wanted}")


def _measured(path: pathlib.Path) -> dict[str, float] | None:
    try:
        return art_attributes.measure(images.open_strict(path.read_bytes())[0])
    except (OSError, images.ImageError):
        return None


def _agreement(lines: Sequence[captions.Line]) -> dict[tuple[str, str], tuple[float, int]]:
    """Kappa of each pair of annotators over all adjectives of the pictures that both described."""
    said: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for line in lines:
        if annotator := line.attributes.get("annotator"):
            for text in line.captions:
                said[str(annotator)][line.file] |= {a.name for a in art_words.parse(text)[0]}
    names, found = list(art_words.load().adjectives), {}
    for a, b in itertools.combinations(sorted(said), 2):
        both = sorted(set(said[a]) & set(said[b]))
        if both:
            first, second = (
                np.array([[n in said[who][file] for n in names] for file in both]).ravel()
                for who in (a, b)
            )
            found[a, b] = (cohen_kappa(first, second), len(both))
    return found


def cohen_kappa(first: Shaped[np.ndarray, "n"], second: Shaped[np.ndarray, "n"]) -> float:
    """Returns Cohen's kappa (Educational and Psychological Measurement 20, 1960).

    Args:
      first: Label that one annotator gave to each item.
      second: Label that the other annotator gave.

    Returns:
      1 for full agreement, 0 for agreement at chance; 1 if both always give one and the same label.
    """
    values = np.unique(np.concatenate([first, second]))
    agreed = np.mean(first == second)
    chance = sum(np.mean(first == v) * np.mean(second == v) for v in values)
    return float((agreed - chance) / (1.0 - chance)) if chance < 1.0 else 1.0
