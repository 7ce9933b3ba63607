"""File names as text: safe to store, to print, to compare and to sort on every platform."""

import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """Returns the normal form NFC, by which the names that macOS and Linux write agree."""
    return unicodedata.normalize("NFC", name)


def order(name: str) -> tuple[str, str]:
    """Returns a key to sort by that depends neither on the platform nor on the normal form."""
    return composed(name), name


def key(name: str) -> str:
    """Returns a name that UTF-8 can hold: bytes of another encoding become %XX."""
    if name.isascii():
        return name
    return "".join(f"%{ord(c) - 0xDC00:02X}" if _is_byte(c) else c for c in name)


def keys(names: Iterable[str]) -> list[str]:
    """Returns the `key` of each name, with a number at its end where an earlier one is equal."""
    result: dict[str, None] = {}
    for name in names:
        unique, number = key(name), 1
        while unique in result:
            number += 1
            unique = f"{key(name)}~{number}"
        result[unique] = None
    return list(result)


def printable(name: object) -> str:
    """Returns a name for one line of a console: line breaks and control characters are escaped."""
    text = key(str(name))
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_byte(letter: str) -> bool:
    """Returns whether Python put this letter for a byte that is not UTF-8 (PEP 383)."""
    return 0xDC80 <= ord(letter) <= 0xDCFF
