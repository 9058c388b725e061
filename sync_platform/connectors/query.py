"""A query as an object to read: what it may be, and positions that hold only while it is the same.

A query is written in the connection (`tables={"name": {"query": "SELECT …", "key": ["id"]}}`), runs as a sub-select
in a read-only transaction, and is never written to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sync_platform.errors import ConfigError
from sync_platform.model import Position

if TYPE_CHECKING:
    from sync_platform.connectors.sql import Table, TableOptions

_BEGINS: Final = ("SELECT", "WITH", "VALUES", "L_PAREN")
_DIGEST: Final = "query"


def refuse_unfit(stream: str, options: TableOptions, dialect: str) -> str:
    """The query of a stream, ready to stand in brackets; ConfigError for more or other than one query, or no key."""
    import sqlglot  # most tables are read by their name: those need not wait for it

    query = (options.query or "").strip()

    def wrong(what: str, mend: str, field: str = "query") -> ConfigError:
        return ConfigError(f"{stream}: {what}", field=field, value=query, mend=mend)

    try:
        words = [token.token_type.name for token in sqlglot.tokenize(query, read=dialect)]
    except sqlglot.errors.SqlglotError as error:
        raise wrong(f"its query is not SQL: {str(error).splitlines()[0]}", "write one SELECT") from None
    if "SEMICOLON" in words:
        raise wrong("its query holds a `;`", "write one SELECT, without a semicolon")
    if not words or words[0] not in _BEGINS or not _balanced(words):
        raise wrong("its query does not begin with SELECT, WITH or VALUES", "write one SELECT: nothing is written here")
    if "INTO" in words or _writes(query, dialect):
        raise wrong("its query writes or locks", "write a SELECT that only reads")
    if not options.key:
        raise wrong(
            "a query needs its key named",
            f"say which columns identify a row: tables={{{stream!r}: {{'query': …, 'key': [...]}}}} in the connection",
            "key",
        )
    return query


def _balanced(words: Sequence[str]) -> bool:
    depth = 0
    for word in words:
        depth += (word == "L_PAREN") - (word == "R_PAREN")
        if depth < 0:
            return False
    return depth == 0


def _writes(query: str, dialect: str) -> bool:
    """Whether any part is more than a query (a WITH may hold an INSERT)."""
    import sqlglot
    from sqlglot import exp

    writes = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Command, exp.Lock, exp.Create)
    try:
        return sqlglot.parse_one(query, read=dialect).find(*writes) is not None
    except sqlglot.errors.SqlglotError:
        return False  # the server knows more of its own dialect, and its transaction is read-only


def unfollowable_query(table: Table) -> str:
    """Why capture cannot follow it, and what to do."""
    return (
        f"{table} is a query, and the log tells of tables only: follow the tables it reads, or name its cursor and let "
        "the sync read it on a schedule"
    )


def still_good(table: Table, since: Position | None) -> Position | None:
    """The position, unless it is one of another query under the same name: then all is read anew."""
    if since is None or since.value.get(_DIGEST) == _digest(table):
        return since
    return None


def of_query(table: Table, position: Position) -> Position:
    """The position with what tells the query."""
    digest = _digest(table)
    return position if digest is None else replace(position, value={**position.value, _DIGEST: digest})


def _digest(table: Table) -> str | None:
    return None if table.query is None else hashlib.sha256(table.query.encode()).hexdigest()[:16]
