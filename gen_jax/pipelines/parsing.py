"""Values that users write as text: sizes, intervals and lists of seeds."""

import re

from gen_jax.common import numbers
from gen_jax.common.errors import UserError


def size(text: str, name: str) -> tuple[int, int]:
    """Returns a width and a height that are written WIDTHxHEIGHT.

    Args:
      text: Such as "512x768".
      name: What it is called in the error message.

    Raises:
      UserError: It is no size.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if not match:
        raise UserError(f"{name}={text}: expected WIDTHxHEIGHT in pixels, such as 512x768")
    return int(match[1]), int(match[2])


def interval(text: str, name: str) -> tuple[float, float]:
    """Returns a part of the time range that is written LOW,HIGH; arguments as of `size`.

    Raises:
      UserError: It is no such part.
    """
    ends = text.split(",")
    if len(ends) != 2:
        raise UserError(f"{name}={text}: expected LOW,HIGH, such as 0.3,1")
    low, high = (numbers.parse(end, name, float, 0, 1) for end in ends)
    if low > high:
        raise UserError(f"{name}={text}: expected LOW of at most HIGH")
    return low, high


def seeds(text: str, name: str) -> tuple[int, ...]:
    """Returns two seeds or more with commas between; arguments as of `size`.

    Raises:
      UserError: One is no seed, or there is one alone.
    """
    texts = text.split(",")
    if len(texts) < 2:
        raise UserError(f"{name}={text}: expected two seeds or more, such as {name}=1,2")
    return tuple(numbers.check_seed(part, name) for part in texts)
