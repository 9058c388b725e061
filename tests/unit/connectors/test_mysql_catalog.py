"""What the catalogue says that MariaDB never does: answers of MySQL, after its manual."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sync_platform.connectors.mysql.catalog import Reading, StoredTable, describe
from sync_platform.connectors.mysql.session import Session
from sync_platform.errors import ConfigError

TABLE = {"schema": "shop", "name": "t", "kind": "BASE TABLE", "engine": "InnoDB", "transactional": "YES",
         "updatable": None, "rewriting": "0"}  # fmt: skip
COLUMN: dict[str, str | None] = {
    "type": "int", "declared": "int", "nullable": "NO", "default": None, "extra": "", "generated": "", "length": None,
    "precision": "10", "scale": "0", "fraction": None, "charset": None, "collation": None, "comment": "",
}  # fmt: skip


def described(*indexes: tuple[str, str | None, bool]) -> StoredTable:
    """A table of two whole numbers with these parts of indexes: name, column, unique."""

    def rows(sql: str, doing: str) -> list[dict[str, Any]]:
        if "information_schema.STATISTICS" in sql:
            return [{"name": name, "column": column, "unique": str(int(unique))} for name, column, unique in indexes]
        return [{"name": name, **COLUMN} for name in "ab"] if "information_schema.COLUMNS" in sql else [TABLE]

    session = SimpleNamespace(rows=rows, about=SimpleNamespace(folding=False))
    return describe(cast(Session, session), "t", "shop", {}, Reading())


def test_an_index_with_an_expression_among_its_parts_tells_no_rows_apart() -> None:
    """`UNIQUE (a, (lower(c)))`: https://dev.mysql.com/doc/refman/8.4/en/create-index.html#create-index-functional-key-parts"""
    with pytest.raises(ConfigError, match="neither a primary key nor a unique index"):
        described(("odd", "a", True), ("odd", None, True))
    table = described(("odd", "a", True), ("odd", None, True), ("plain", "b", True))
    assert (table.key, table.uniques) == (("b",), {"plain": ("b",)})
