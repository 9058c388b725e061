"""Named normalisers for dedupe keys, filters and mappings: `normalize_email(Email)` and its kin.

Each is a template of plain SQL, one for DuckDB and one for polars, put in the place of the call
before the expression runs. What is empty after normalising is null, so that it never identifies
anything.
"""

from __future__ import annotations

from typing import Final

import sqlglot
from sqlglot import exp

from sync_platform.engine.expressions import PolarsSQL
from sync_platform.errors import ConfigError

_DIGITS = r"regexp_replace(regexp_replace(cast({x} as varchar), '[^0-9]', '', 'g'), '^00', '')"
_DUCKDB: Final = {
    "normalize_email": "nullif(lower(trim({x})), '')",
    "normalize_phone": f"nullif({_DIGITS}, '')",
    "normalize_name": (
        r"nullif(lower(strip_accents(replace(trim(regexp_replace({x}, '\s+', ' ', 'g')), 'ß', 'ss'))), '')"
    ),
}
_POLARS: Final = {
    "normalize_email": _DUCKDB["normalize_email"],
    "normalize_phone": _DUCKDB["normalize_phone"],
    "normalize_name": (
        r"nullif(lower(regexp_replace(normalize(replace(trim(regexp_replace({x}, '\s+', ' ', 'g')), 'ß', 'ss'), NFKD),"
        r" '\p{{M}}', '', 'g')), '')"
    ),
}
#: e-mail: trimmed, lower case. phone: digits only, without a leading 00. name: trimmed, lower case,
#: one space between words, no accents.
NAMES: Final = frozenset(_DUCKDB)


def for_duckdb(tree: exp.Expr) -> exp.Expr:
    """The tree with every normaliser call replaced by DuckDB SQL."""
    return _expand(tree, _DUCKDB, "duckdb")


def for_polars(tree: exp.Expr) -> exp.Expr:
    """The tree with every normaliser call replaced by the SQL polars reads."""
    return _expand(tree, _POLARS, PolarsSQL)


def _expand(tree: exp.Expr, templates: dict[str, str], dialect: type[sqlglot.Dialect] | str) -> exp.Expr:
    def replace(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Anonymous) or str(node.this).lower() not in templates:
            return node
        name = str(node.this).lower()
        if len(node.expressions) != 1:
            raise ConfigError(
                f"{name} takes one field, got {len(node.expressions)}",
                field=name,
                value=node.sql(),
                mend=f"write {name}(Field)",
            )
        body = sqlglot.parse_one(templates[name].format(x='"__x"'), dialect=dialect)
        argument = node.expressions[0].transform(replace)
        filled: exp.Expr = body.transform(
            lambda n: argument.copy() if isinstance(n, exp.Column) and n.name == "__x" else n
        )
        return filled

    return tree.transform(replace)
