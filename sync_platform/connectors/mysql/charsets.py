"""Character sets whose texts Python reads and writes as the server does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_CODECS: Final[Mapping[str, str]] = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "ascii": "ascii", "latin1": "cp1252", "latin2": "latin2",
    "latin5": "iso8859-9", "latin7": "iso8859-13", "greek": "iso8859-7", "hebrew": "iso8859-8", "cp1250": "cp1250",
    "cp1251": "cp1251", "cp1256": "cp1256", "cp1257": "cp1257", "cp850": "cp850", "cp852": "cp852", "cp866": "cp866",
    "koi8r": "koi8-r", "koi8u": "koi8-u", "ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
}  # fmt: skip
#: The server's latin1 is Windows' with its five holes filled.
_LATIN1: Final = [bytes([i]).decode("cp1252", "replace").replace("\ufffd", chr(i)) for i in range(256)]
_FROM_LATIN1: Final = {char: byte for byte, char in enumerate(_LATIN1)}


def is_known(charset: str | None) -> bool:
    """Whether `to_text` and `to_bytes` can be asked about it."""
    return charset in _CODECS


def to_text(charset: str, raw: bytes) -> str:
    """The text of stored bytes."""
    return "".join(_LATIN1[byte] for byte in raw) if charset == "latin1" else raw.decode(_CODECS[charset])


def to_bytes(charset: str, text: str) -> bytes | None:
    """The bytes of a text; None when the charset lacks one of its characters."""
    try:
        if charset == "latin1":
            return bytes(_FROM_LATIN1[char] for char in text)
        return text.encode(_CODECS[charset])
    except (KeyError, UnicodeEncodeError):
        return None


def is_unicode(charset: str | None) -> bool:
    """Whether it holds UTF-8 as texts are sent."""
    return _CODECS.get(charset or "") == "utf-8"
