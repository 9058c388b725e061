"""The rows a two-way plan is made of, as parts of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from sync_platform.engine.twoway.changes import Row
from sync_platform.model import CURSOR, KEY, READ_AT

_ROWS: Final[dict[str, Any]] = {
    "_side": pl.String, "_op": pl.String, KEY: pl.String, "_target_id": pl.String, "_partner": pl.String,
    "_reason": pl.String, CURSOR: pl.Int64, READ_AT: pl.Int64, "_dedupe_key": pl.String, "_changed": pl.Boolean,
    "_fields": pl.List(pl.String), "_base": pl.Int64, "_replaces": pl.String, "_relink": pl.Boolean,
    "_bases": pl.String, "_field": pl.String, "_held": pl.String,
}  # fmt: skip
_LETTER: Final = {
    KEY: pl.String, CURSOR: pl.Int64, READ_AT: pl.Int64, "_changed": pl.Boolean, "_dedupe_key": pl.String,
    "payload": pl.String, "field": pl.String, "reason": pl.String, "reasons": pl.String,
}  # fmt: skip


def letters_frame(letters: Sequence[Row]) -> pl.DataFrame:
    """Refusals as a part of a plan, one each record."""
    return pl.DataFrame(list(letters), schema=_LETTER).unique(KEY, keep="first", maintain_order=True)


def frame_of(rows: Sequence[Row], fields: Sequence[str]) -> pl.DataFrame:
    """Rows as a part of a plan."""
    columns = [*_ROWS, *[f"{when}:{name}" for when in ("new", "old") for name in fields]]
    told = [{name: row.get(name) for name in columns} for row in rows]
    series = [
        pl.Series(name, [row[name] for row in told], dtype=_ROWS.get(name), strict=name in _ROWS) for name in columns
    ]
    return pl.DataFrame(series)
