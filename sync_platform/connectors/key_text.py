"""The text of a key, letter for letter as staging (DuckDB) prints it; the reverse for bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

_PLAIN: Final = frozenset(range(32, 127)) - frozenset(b"\\'\"")
_ESCAPED: Final = re.compile(rb"\\x([0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u00([01][0-9a-f])")


def bytes_text(value: bytes) -> str:
    """Bytes as text: other than printable ASCII as `\\x` and two digits."""
    return "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02X}" for byte in value)


def text_bytes(text: str) -> bytes:
    """The reverse of `bytes_text`."""
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode())


def decimal_text(plain: str, kind: pa.DataType) -> str:
    """A decimal number's text, given its plain one: no zero before the point where the type has no room for one."""
    return plain.replace("0.", ".", 1) if kind.precision == kind.scale else plain


def column_texts(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A key column's values as texts."""
    kind = column.type
    if pa.types.is_binary(kind):
        return pa.array([None if value is None else bytes_text(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_decimal(kind) and kind.scale > 0:
        plain = [None if value is None else decimal_text(f"{value:f}", kind) for value in column.to_pylist()]
        return pa.array(plain, pa.string())
    return pc.cast(column, pa.string())


def joined(parts: Sequence[str]) -> str:
    """The key of several columns: a JSON array of their texts."""
    told = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return _CONTROL.sub(lambda found: f"{found[1]}\\u00{found[2].upper()}", told) if "\\u00" in told else told
