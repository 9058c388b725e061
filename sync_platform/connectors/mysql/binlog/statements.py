"""What logged statements do to the tables that are followed, told from their text alone.

Rows of a row binlog are told as rows; statements are only DDL, and whatever a session logs that asked for
`binlog_format = STATEMENT`. The text is read generously: a table is meant when its name stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from sync_platform.connectors.mysql.binlog.events import Statement

__all__ = ["Effect", "branch_of", "effect_of", "naming"]


class Effect(Enum):
    """What a statement does."""

    BEGIN = auto()
    END = auto()
    XA_COMMIT = auto()
    XA_ROLLBACK = auto()
    NOTHING = auto()
    EMPTIES = auto()
    DROPS = auto()
    DROPS_DATABASE = auto()
    ALTERS = auto()


_COMMENTS: Final = re.compile(r"/\*(?![!M]).*?\*/|/\*[!M]+\d*|\*/|--\s[^\n]*|#[^\n]*", re.DOTALL)
_FORMS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), effect)
    for pattern, effect in (
        (r"BEGIN\b|START\s+TRANSACTION\b|XA\s+(START|BEGIN)\b", Effect.BEGIN),
        (r"COMMIT\b|ROLLBACK\s*;?$", Effect.END),
        (r"XA\s+COMMIT\b", Effect.XA_COMMIT),
        (r"XA\s+ROLLBACK\b", Effect.XA_ROLLBACK),
        (r"ROLLBACK\s+TO\b|SAVEPOINT\b|RELEASE\b|XA\b", Effect.NOTHING),
        (r"TRUNCATE\b", Effect.EMPTIES),
        (r"DROP\s+(DATABASE|SCHEMA)\b", Effect.DROPS_DATABASE),
        (r"DROP\s+TEMPORARY\b|CREATE\s+(OR\s+REPLACE\s+)?TEMPORARY\b", Effect.NOTHING),
        (r"DROP\s+TABLE\b", Effect.DROPS),
        (r"GRANT\b|REVOKE\b|ANALYZE\b|OPTIMIZE\b|REPAIR\b|CHECK\b|FLUSH\b|SET\b|USE\b|KILL\b", Effect.NOTHING),
        (r"(ALTER|DROP|CREATE)\s+(?!.*\bTABLE\b)", Effect.NOTHING),
        (
            r"(ALTER|DROP|CREATE)\s+(OR\s+REPLACE\s+)?(AGGREGATE\s+)?(DEFINER\s*=\s*\S+\s+)?(ALGORITHM\s*=\s*\w+\s+)?"
            r"(SQL\s+SECURITY\s+\w+\s+)?(VIEW|TRIGGER|PROCEDURE|FUNCTION|PACKAGE|EVENT|USER|ROLE|SERVER|SEQUENCE"
            r"|(ONLINE\s+|OFFLINE\s+)?(UNIQUE\s+|FULLTEXT\s+|SPATIAL\s+)?INDEX)\b",
            Effect.NOTHING,
        ),
    )
)


def effect_of(text: str) -> Effect:
    """What a statement does; whatever is not known changes the tables it names."""
    bare = _COMMENTS.sub(" ", text).strip()
    return next((effect for form, effect in _FORMS if form.match(bare)), Effect.ALTERS)


def naming(said: Statement, *, folded: bool) -> Callable[[str, str], bool]:
    """Whether a statement names the table of a database."""
    text, database = said.text, said.database
    if folded:
        text, database = text.lower(), database.lower()
    words = set(re.findall(r"`((?:[^`]|``)+)`|([^\s`.,;()=<>'\"]+)", text))
    known = {quoted.replace("``", "`") or bare for quoted, bare in words}

    def names(schema: str, table: str) -> bool:
        if folded:
            schema, table = schema.lower(), table.lower()
        return table in known and (schema == database or schema in known)

    return names


_BRANCH: Final = re.compile(r"X'([0-9a-f]*)'(?:\s*,\s*X'([0-9a-f]*)')?(?:\s*,\s*(\d+))?", re.IGNORECASE)


def branch_of(text: str) -> str | None:
    """The branch that XA COMMIT or XA ROLLBACK names, as `events.branch` tells it."""
    found = _BRANCH.search(text)
    if found is None:
        return None
    return f"{found[1].lower()},{(found[2] or '').lower()},{found[3] or 1}"
