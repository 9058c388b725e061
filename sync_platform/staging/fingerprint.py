"""SQL for what identifies a staged row: its key, its cursor and the hash of its content.

The hash must give the same number in every version of DuckDB and of this platform, in every order
of columns, and with a column null or missing. So it is the lower half of the MD5 of a text we write
ourselves: `␟name␞value` for every value that is not null, by name (`␟` is doubled within values).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.types as pt

from sync_platform.staging.lake import literal

PAIR = "\x1f"
EQUALS = "\x1e"


def hash_sql(columns: Mapping[str, pa.DataType], ref: Callable[[str], str]) -> str:
    """A UBIGINT expression over the vendor's columns; `ref(name)` is the SQL that reads one."""
    parts = []
    for name in sorted(columns):
        value = ref(name)
        parts.append(f"CASE WHEN {value} IS NOT NULL THEN {literal(PAIR + name + EQUALS)} END")
        parts.append(value_text(value, columns[name]))
    return f"md5_number_lower(concat({', '.join(parts)}))" if parts else "md5_number_lower('')"


def value_text(sql: str, kind: pa.DataType) -> str:
    """A VARCHAR expression: the value as the hash reads it, NULL for null."""
    if pt.is_string(kind):
        doubled = f"replace({sql}, {literal(PAIR)}, {literal(PAIR * 2)})"  # copies every value: only where needed
        return f"CASE WHEN contains({sql}, {literal(PAIR)}) THEN {doubled} ELSE {sql} END"
    if pt.is_timestamp(kind):
        return f"epoch_us({sql})::VARCHAR"
    if pt.is_binary(kind):
        return f"to_base64({sql})"
    return f"({sql})::VARCHAR"


def key_sql(key: Sequence[str], types: Mapping[str, pa.DataType], ref: Callable[[str], str]) -> str:
    """A VARCHAR expression: the key's text, or the JSON array of the texts of a composite key."""
    texts = [_key_text(ref(name), types[name]) for name in key]
    return texts[0] if len(texts) == 1 else f"to_json([{', '.join(texts)}])::VARCHAR"


def _key_text(sql: str, kind: pa.DataType) -> str:
    if pt.is_timestamp(kind):
        return f"strftime({sql}, '%Y-%m-%d %H:%M:%S.%f{'' if kind.tz is None else 'Z'}')"
    return sql if pt.is_string(kind) else f"({sql})::VARCHAR"


def cursor_sql(sql: str, kind: pa.DataType) -> str:
    """A BIGINT expression: microseconds since the epoch, or the number itself."""
    if pt.is_timestamp(kind):
        return f"epoch_us({sql})"
    if pt.is_date(kind):
        return f"epoch_us(({sql})::TIMESTAMP)"
    if pt.is_string(kind):
        return f"epoch_us(TRY_CAST({sql} AS TIMESTAMPTZ))"
    return f"floor({sql})::BIGINT" if not pt.is_integer(kind) else sql
