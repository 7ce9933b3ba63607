"""Cleaning and filtering of captions that a model writes."""

import re

EMPTY, ECHO, LOOP = "empty", "echo of the prefix", "loop"
TOO_SHORT, TOO_LONG, STOCK = "too short", "too long", "stock phrase"

LEAST_WORDS, MOST_WORDS = 2, 30  # words after the prefix

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
# What captioners copy from the pages of image sellers, and phrases that say nothing of the subject.
_STOCK = (
    re.compile(r"\bblack[- ]and[- ]white\b"),
    re.compile(r"\bstock[- ](?:photo|image|illustration|vector|footage)|\broyalty[- ]free\b"),
    re.compile(r"\b(?:shutterstock|istock|alamy|getty images|dreamstime)\b"),
    re.compile(r"\b(?:image|picture|photo|photograph) of (?:an?|the)\b"),
    # "An engraving of an engraving": the kind of image is not its subject.
    re.compile(r"\b(\w+) (?:of|depicting|showing) (?:an?|the) \1\b"),
    re.compile(r"https?:|\bwww\.|\.com\b"),
)


def clean(text: str) -> str:
    """Returns the first line of a text with single spaces, without quotes and loose ends."""
    lines = [line for line in text.splitlines() if line.strip()]
    line = " ".join(lines[0].split()) if lines else ""
    line = re.sub(r"\s+([,.;:!?])", r"\1", line)
    return line.strip(" \"'“”").rstrip(" ,;:-–").lstrip(" .,;:-–")


def joined(prefix: str, continuation: str) -> str:
    """Returns the caption: the prefix, then the cleaned continuation."""
    return " ".join(filter(None, [prefix.strip(), continuation]))


def rejection(prefix: str, continuation: str) -> str:
    """Returns why a caption is unfit for training; "" if it is fit.

    Args:
      prefix: Text that the model was prompted with.
      continuation: Text that the model added, as `clean` returns it.
    """
    words, start = _words(continuation), _words(prefix)
    if not words:
        return EMPTY
    if start and _holds(words, start):
        return ECHO
    # Before the length, because a loop is often long, and its cause is the more useful one.
    if _is_loop(words):
        return LOOP
    if len(words) < LEAST_WORDS:
        return TOO_SHORT
    if len(words) > MOST_WORDS:
        return TOO_LONG
    return STOCK if _has_stock_phrase(prefix, continuation) else ""


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _holds(words: list[str], part: list[str]) -> bool:
    length = len(part)
    return any(words[at : at + length] == part for at in range(len(words) - length + 1))


def _is_loop(words: list[str]) -> bool:
    """Returns whether three words repeat as a group, or one word stands three times in a row."""
    trigrams = list(zip(words, words[1:], words[2:]))
    return len(set(trigrams)) < len(trigrams) or any(len(set(group)) == 1 for group in trigrams)


def _has_stock_phrase(prefix: str, continuation: str) -> bool:
    prefix = prefix.lower()
    whole = joined(prefix, continuation.lower())
    # A phrase of the prefix is the user's own choice.
    return any(pattern.search(whole) and not pattern.search(prefix) for pattern in _STOCK)
