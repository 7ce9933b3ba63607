"""Characters of number plates as numbers: what a plate reader predicts."""

import numpy as np
from jaxtyping import Integer

from gen_jax.common.errors import UserError

BLANK = 0  # of CTC, and padding of texts
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CLASSES = 1 + len(CHARACTERS)
MAX_LENGTH = 10

_INDEX = {letter: index for index, letter in enumerate(CHARACTERS, 1)}
_SEPARATORS = " -.·•"


def normalized(text: str) -> str:
    """Returns the text of a plate in capitals, without its separators."""
    return "".join(letter for letter in text.upper() if letter not in _SEPARATORS)


def encode(text: str, key: str = "") -> np.ndarray:
    """Returns the characters of a plate as int32 [MAX_LENGTH], `BLANK` after the last one.

    Args:
      text: Text of the plate; separators are left out.
      key: What the plate is called in the error message.

    Raises:
      UserError: The text is empty, too long, or has a character that no plate has.
    """
    plain = normalized(text)
    if odd := [letter for letter in plain if letter not in _INDEX]:
        raise UserError(f"{key}: text {text!r} has {odd[0]!r}; expected A to Z, 0 to 9")
    if not 0 < len(plain) <= MAX_LENGTH:
        raise UserError(f"{key}: text {text!r}: expected 1 to {MAX_LENGTH} characters")
    out = np.full(MAX_LENGTH, BLANK, np.int32)
    out[: len(plain)] = [_INDEX[letter] for letter in plain]
    return out


def decode(tokens: Integer[np.ndarray, " n"]) -> str:
    """Returns the text of tokens, without blanks."""
    return "".join(CHARACTERS[int(token) - 1] for token in tokens if token != BLANK)
