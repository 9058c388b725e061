"""The key of a row as the log tells it, in the text under which staging knows the row.

The log tells what a type's output function prints. For most types that is what a read gives as well; where it is not
(blanks at the end of a `char(n)`, `t` for true, times), it is translated, and a type that cannot be is not followed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

import pyarrow as pa

from sync_platform.connectors.postgres.pgoutput import Unchanged, Values
from sync_platform.connectors.sql import Column, Table

Translation = Callable[[str], str]

#: Types of which output function and cast to text print the same.
_ALIKE: Final = frozenset(
    {"int2", "int4", "int8", "text", "varchar", "citext", "uuid", "numeric", "name", "date", "oid", "macaddr"}
)


def unfollowable(table: Table, column: Column) -> str | None:
    """Why rows cannot be followed by this column of their key, with the mend; None when they can."""
    if translation(column) is not None:
        return None
    return (
        f"{table}: the key column {column.name} is a {column.declared}, whose text in the log is not the one of a "
        f"read: name other columns as the key: tables={{{table.name!r}: {{'key': [...]}}}} in the connection"
    )


def translation(column: Column) -> Translation | None:
    """How the log's text of a key column becomes staging's; None when nobody knows."""
    if column.type in _ALIKE or column.values:
        return _same
    if column.type == "bpchar":
        return _without_blanks
    if column.type == "bool":
        return _truth
    if column.type == "timestamptz" and not pa.types.is_string(column.arrow):
        return _instant
    if column.type == "timestamp" and column.arrow == pa.timestamp("us"):
        return _local
    return None


def key_text(values: Values, translations: Sequence[Translation]) -> str | None:
    """The key of a row as staging has it; None when the log did not tell all of it."""
    texts = []
    for value, translated in zip(values, translations, strict=True):
        if value is None or isinstance(value, Unchanged):
            return None
        texts.append(value if translated is _same else translated(value))
    return texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False, separators=(",", ":"))


def _same(text: str) -> str:
    return text


def _without_blanks(text: str) -> str:
    return text.rstrip(" ")


def _truth(text: str) -> str:
    return "true" if text == "t" else "false"


def _instant(text: str) -> str:
    """`2024-07-01 10:00:00+00` (the session's zone is UTC) with all six digits and a Z."""
    return _local(text.removesuffix("+00")) + "Z"


def _local(text: str) -> str:
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction:0<6}"
