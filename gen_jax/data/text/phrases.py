"""Pieces of generated English: a random choice, and the indefinite article."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def pick(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    """Returns one of the choices, each with the same probability."""
    return choices[int(rng.integers(len(choices)))]


def with_article(words: str) -> str:
    """Returns the words after "a" or "an"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
