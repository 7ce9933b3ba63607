"""Files of a folder that look like images and are left out: why, how many, and what to do."""

import dataclasses
import enum
from collections import Counter
from collections.abc import Callable, Iterable

from gen_jax.common import image_formats, names

HIDDEN = "hidden"
BROKEN_LINK = "broken link"
UNREADABLE = "not readable here"
NO_ENDING = "image without an ending"
NOT_A_FILE = "not a file"
CLOSED = "folder that cannot be read"
CYCLE = "link to a folder above"
OUTPUT = "output folder"
OWN = "made by gen_jax"

LOST = (BROKEN_LINK, UNREADABLE, CLOSED)
"""Reasons that keep an image of the user's from being used; the others are choices."""


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """An image, or a folder, that is not in a listing.

    Attributes:
      name: Its path inside the folder, safe to store (`names.key`).
      reason: A short name to count by.
      advice: What to do about it, or "".
    """

    name: str
    reason: str
    advice: str = ""


class Kind(enum.Enum):
    """What a name in a folder stands for, or what its link leads to."""

    FILE, FOLDER, BROKEN, OTHER = range(4)


def judge(name: str, kind: Kind, head: Callable[[], bytes]) -> LeftOut | bool:
    """Returns whether a file is an image; one that is left out comes with its reason."""
    last = name.rsplit("/", 1)[-1]
    if last.startswith("."):
        # Metadata of macOS beside an image, or a name that is nothing but an ending.
        is_image = image_formats.problem("x" + last) is not None
        return LeftOut(names.key(name), HIDDEN) if is_image else False
    advice = image_formats.problem(last)
    if kind is Kind.BROKEN:
        # Without an ending it may have led to a folder of images.
        is_loss = advice is not None or "." not in last
        return LeftOut(names.key(name), BROKEN_LINK) if is_loss else False
    if advice is None:
        ending = image_formats.ending_of_content(head()) if "." not in last else None
        if kind is not Kind.FILE or ending is None:
            return False
        return LeftOut(names.key(name), NO_ENDING, f"rename it to {names.key(last)}{ending}")
    if kind is Kind.OTHER:
        return LeftOut(names.key(name), NOT_A_FILE)
    return LeftOut(names.key(name), UNREADABLE, advice) if advice else True


def summary(left_out: Iterable[LeftOut], counts: dict[str, int] | None = None) -> str:
    """Returns one line on what was left out: each reason with its count and its first file.

    Args:
      left_out: What was left out.
      counts: Number of files per reason; by default those of `left_out`.

    Returns:
      Such as "1 broken link (9.png), 1 not readable here (a.heic: pip install pillow-heif)", or
      "" if nothing was left out.
    """
    first: dict[str, LeftOut] = {}
    numbers: Counter[str] = Counter()
    for item in left_out:
        first.setdefault(item.reason, item)
        numbers[item.reason] += 1
    texts = []
    for reason, number in sorted((counts or numbers).items()):
        text = f"{number} {reason}"
        if reason in first:
            advice = first[reason].advice and f": {first[reason].advice}"
            text += f" ({names.printable(first[reason].name)}{advice})"
        texts.append(text)
    return ", ".join(texts)
