"""The SQL that writes rows: literals and files of values, made by Arrow; and what applies the staged part `_sync_part`.

https://dev.mysql.com/doc/refman/8.4/en/load-data.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sync_platform.connectors.mysql.catalog import StoredColumn, StoredTable
from sync_platform.connectors.mysql.session import identifier, literal

#: Columns of a table that the server takes for certain.
MOST_COLUMNS: Final = 1000

PART: Final = "_sync_part"
#: Its columns beside the values: the row's number, the parts of the key, and the values that were.
NUMBER: Final = "_sync_n"
KEY: Final = "_sync_k"
WAS: Final = "_sync_w"

#: Column types that a file's text is not assigned to as it stands.
_CONVERTED: Final = {"bit": "CAST({} AS UNSIGNED)", "bytes": "UNHEX({})"}


@dataclass(frozen=True, slots=True)
class Rendered:
    """Rows as one text, and where each begins (one more for the end)."""

    text: memoryview
    starts: np.ndarray

    def between(self, low: int, high: int) -> memoryview:
        """The text of some rows."""
        return self.text[self.starts[low] : self.starts[high]]

    def size(self, low: int, high: int) -> int:
        """The bytes of some rows."""
        return int(self.starts[high] - self.starts[low])

    @classmethod
    def of(cls, rows: pa.Array) -> Rendered:
        """The rows' texts, one after the other; they may be more than 2 GB together."""
        large = rows.cast(pa.large_string())
        starts = np.frombuffer(large.buffers()[1], np.int64)[large.offset : large.offset + len(large) + 1]
        data = large.buffers()[2]
        return cls(memoryview(data) if data is not None else memoryview(b""), starts)


def kind_of(column: StoredColumn) -> str:
    """How a text becomes the column's value: `text`, `bit` or `bytes`."""
    return "bit" if column.type == "bit" else "bytes" if pa.types.is_binary(column.arrow) else "text"


def _joined(*parts: pa.Array | str, by: str = "") -> pa.Array:
    """The parts' texts next to each other, row by row, `by` between them."""
    large = [pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in (*parts, by)]
    return pc.binary_join_element_wise(*large)


def values_list(texts: Sequence[pa.Array], kinds: Sequence[str]) -> Rendered:
    """Rows as they stand after VALUES, each followed by a comma."""
    quoted = [_literals(text.cast(pa.large_string()), kind) for text, kind in zip(texts, kinds, strict=True)]
    return Rendered.of(_joined("(", _joined(*quoted, by=","), "),"))


def _literals(texts: pa.Array, kind: str) -> pa.Array:
    if kind == "text":
        texts = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), "'", "''")
        texts = _joined("'", texts, "'")
    elif kind == "bytes":
        texts = _joined("x'", texts, "'")
    return pc.fill_null(texts, "NULL")


def file(texts: Sequence[pa.Array]) -> Rendered:
    """Rows as LOAD DATA reads them: tabs between values, backslashes before what could be mistaken."""
    escaped = []
    for given in texts:
        text = given.cast(pa.large_string())
        for plain, shown in (("\\", "\\\\"), ("\t", "\\\t"), ("\n", "\\\n")):
            text = pc.replace_substring(text, plain, shown)
        escaped.append(pc.fill_null(text, "\\N"))
    return Rendered.of(_joined(_joined(*escaped, by="\t"), "\n"))


def load(place: str, names: Sequence[str], kinds: Sequence[str]) -> str:
    """The LOAD DATA for `file`'s rows."""
    taken, sets = [], []
    for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        taken.append(f"@v{i}" if kind in _CONVERTED else identifier(name))
        if kind in _CONVERTED:
            sets.append(f"{identifier(name)} = {_CONVERTED[kind].format(f'@v{i}')}")
    return (
        f"LOAD DATA LOCAL INFILE 'rows' INTO TABLE {place} CHARACTER SET utf8mb4 "
        f"FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({', '.join(taken)})"
        + (f" SET {', '.join(sets)}" if sets else "")
    )


def make_part(table: StoredTable, given: Sequence[str], was: Sequence[str] = ()) -> str:
    """The temporary table that holds a part: the row's number, the key it means, the values given, those that were."""
    columns = [f"`{NUMBER}` INT NOT NULL PRIMARY KEY"]
    columns += [f"`{KEY}{i}` {table.columns[name].definition}" for i, name in enumerate(table.key)]
    columns += [f"{identifier(name)} {table.columns[name].definition}" for name in given]
    columns += [f"`{WAS}{i}` {_roomy(table.columns[name])}" for i, name in enumerate(was)]
    return f"CREATE TEMPORARY TABLE {PART} ({', '.join(columns)}) ENGINE=InnoDB"


def _roomy(column: StoredColumn) -> str:
    """The column's type, or one that takes up no room in a row: the values of a row are twice in a part."""
    if column.is_text:
        return f"LONGTEXT CHARACTER SET {column.charset} COLLATE {column.collation} NULL"
    return "LONGBLOB NULL" if pa.types.is_binary(column.arrow) else column.definition


def part_names(table: StoredTable, given: Sequence[str], was: Sequence[str] = ()) -> list[str]:
    """The columns of the staged part, in their order."""
    return [NUMBER, *(f"{KEY}{i}" for i, _ in enumerate(table.key)), *given, *(f"{WAS}{i}" for i, _ in enumerate(was))]


def _here(table: StoredTable) -> str:
    """Where the staged key is the row's: by the index, and to the byte where a collation sees less."""
    found = []
    for i, name in enumerate(table.key):
        column, mine = table.columns[name], f"t.{identifier(name)}"
        found.append(f"{mine} = p.`{KEY}{i}`")
        if column.is_text:
            found.append(f"BINARY {mine} = BINARY p.`{KEY}{i}`")
    return " AND ".join(found)


def _differs(column: StoredColumn, staged: str | None = None) -> str:
    how = "BINARY " if column.is_text else ""
    return f"NOT ({how}t.{identifier(column.name)} <=> {how}p.{identifier(staged or column.name)})"


def compare(table: StoredTable, given: Sequence[str], was: Sequence[str] = ()) -> str:
    """The staged rows that are not there (as they were), or do not differ.

    All are locked (HAVING, unlike WHERE, lets none go).
    """
    differs = " OR ".join(_differs(table.columns[name]) for name in given) or "0"
    there = " AND ".join([f"t.{identifier(table.key[0])} IS NOT NULL", *_still(table, was)])
    return (
        f"SELECT p.`{NUMBER}` AS n, {there} AS there, ({differs}) AS differs "
        f"FROM {PART} p LEFT JOIN {identifier(table.schema, table.name)} t ON {_here(table)} "
        "HAVING there = 0 OR differs = 0 FOR UPDATE"
    )


def _still(table: StoredTable, was: Sequence[str]) -> list[str]:
    return [f"NOT {_differs(table.columns[name], f'{WAS}{i}')}" for i, name in enumerate(was)]


def update(table: StoredTable, given: Sequence[str], low: int, high: int, was: Sequence[str] = ()) -> str:
    """Sets the given columns of the rows of a range that differ in one of them (and are as they were)."""
    sets = ", ".join(f"t.{identifier(name)} = p.{identifier(name)}" for name in given)
    differs = " OR ".join(_differs(table.columns[name]) for name in given)
    wanted = " AND ".join([f"p.`{NUMBER}` >= {low} AND p.`{NUMBER}` < {high} AND ({differs})", *_still(table, was)])
    return (
        f"UPDATE {PART} p STRAIGHT_JOIN {identifier(table.schema, table.name)} t ON {_here(table)} SET {sets} "
        f"WHERE {wanted}"
    )


def alive(table: StoredTable) -> str:
    """The staged rows that are not there, or are marked deleted already. All are locked."""
    there = f"t.{identifier(table.key[0])} IS NOT NULL"
    if table.options.tombstone is not None:
        there += f" AND {_unmarked(table, table.options.tombstone)}"
    return (
        f"SELECT p.`{NUMBER}` AS n, {there} AS there, 1 AS differs "
        f"FROM {PART} p LEFT JOIN {identifier(table.schema, table.name)} t ON {_here(table)} "
        "HAVING there = 0 FOR UPDATE"
    )


def remove(table: StoredTable, low: int, high: int, now: str) -> str:
    """Deletes the rows of a range, or marks them deleted (at `now`) where the table has a tombstone column."""
    place, between = identifier(table.schema, table.name), f"p.`{NUMBER}` >= {low} AND p.`{NUMBER}` < {high}"
    tombstone = table.options.tombstone
    if tombstone is None:
        return f"DELETE t FROM {PART} p STRAIGHT_JOIN {place} t ON {_here(table)} WHERE {between}"
    mark = "1" if pa.types.is_boolean(table.columns[tombstone].arrow) else literal(now)
    return (
        f"UPDATE {PART} p STRAIGHT_JOIN {place} t ON {_here(table)} SET t.{identifier(tombstone)} = {mark} "
        f"WHERE {between} AND {_unmarked(table, tombstone)}"
    )


def _unmarked(table: StoredTable, tombstone: str) -> str:
    name = f"t.{identifier(tombstone)}"
    return f"{name} IS NOT TRUE" if pa.types.is_boolean(table.columns[tombstone].arrow) else f"{name} IS NULL"
