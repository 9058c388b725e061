"""Record ids: 15 characters of which the first three name the object, and the 18-character form of them.

The last three characters encode which of the 15 are upper case, five bits each, so that ids survive
systems that ignore case (SOAP API Developer Guide, "ID field type").
"""

from __future__ import annotations

from typing import Final

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECK: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_PAIRS: Final = [a + b for a in _DIGITS for b in _DIGITS]
_POD: Final = "SB"  # instance part of every id here
_ALNUM: Final = frozenset(_DIGITS)


def suffix(id15: str) -> str:
    """The three checksum characters of a 15-character id."""
    return _check(id15[:5]) + _check(id15[5:10]) + _check(id15[10:])


def _check(chunk: str) -> str:
    return _CHECK[
        ("A" <= chunk[0] <= "Z")
        + 2 * ("A" <= chunk[1] <= "Z")
        + 4 * ("A" <= chunk[2] <= "Z")
        + 8 * ("A" <= chunk[3] <= "Z")
        + 16 * ("A" <= chunk[4] <= "Z")
    ]


def make_id(prefix: str, number: int) -> str:
    """The 18-character id number `number` of the objects with this key prefix."""
    high, low = divmod(number, 3844)
    tail = _PAIRS[low]
    while high:
        high, low = divmod(high, 3844)
        tail = _PAIRS[low] + tail
    id15 = f"{prefix}{_POD}0{tail.rjust(9, '0')[-9:]}"
    return id15 + suffix(id15)


def to18(text: str) -> str | None:
    """The 18-character form of an id given in either form; None when it is no id.

    A wrong checksum is refused; a wrongly cased 18-character id is put right from its checksum.
    """
    if not _ALNUM.issuperset(text):
        return None
    if len(text) == 15:
        return text + suffix(text)
    if len(text) != 18:
        return None
    id15 = []
    for place, character in enumerate(text[:15]):
        check = _CHECK.find(text[15 + place // 5].upper())
        if check < 0:
            return None
        upper = check >> (place % 5) & 1
        if upper and not character.isalpha():
            return None
        id15.append(character.upper() if upper else character.lower())
    return "".join(id15) + text[15:].upper()
