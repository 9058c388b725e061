"""Values as they are compared: one spelling for what people write in many ways."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Final

import polars as pl
import sqlglot

from sync_platform.engine import normalisers
from sync_platform.engine.conversion import as_text
from sync_platform.engine.expressions import PolarsSQL
from sync_platform.engine.spec import Kind, MatchField

#: Digits that tell two telephones apart, whether or not the country is written.
LINE_DIGITS: Final = 8
_NAMED: Final[tuple[tuple[str, Kind], ...]] = (
    ("mail", "email"), ("phone", "phone"), ("mobile", "phone"), ("fax", "phone"), ("tel", "phone"),
    ("name", "name"), ("company", "name"),
)  # fmt: skip
_NORMALISERS: Final[dict[Kind, str]] = {
    "email": "normalize_email", "phone": "normalize_phone", "name": "normalize_name", "text": "normalize_name",
}  # fmt: skip


def kind_of(field: str) -> Kind:
    """What a field's values are, told by its name: email, phone, name, else text."""
    low = field.lower()
    return next((kind for part, kind in _NAMED if part in low), "text")


def fields_of(names: Sequence[str]) -> tuple[MatchField, ...]:
    """Match fields whose kinds are told by their names."""
    return tuple(MatchField(name=name, kind=kind_of(name)) for name in names)


def with_forms(frame: pl.DataFrame, fields: Sequence[MatchField]) -> pl.DataFrame:
    """The frame's columns that begin with `_`, and for each field `i` its form `f<i>` (null: nothing to compare).

    A name has `names<i>`, too: what the person may also be called. A field the frame lacks is null everywhere.
    """
    kept = frame.select(name for name in frame.columns if name.startswith("_"))
    for number, field in enumerate(fields):
        if field.name in frame.columns:
            text = frame.select(as_text(pl.col(field.name), frame.schema[field.name]).alias("x"))
        else:
            text = pl.DataFrame({"x": pl.repeat(None, frame.height, dtype=pl.String, eager=True)})
        form = _form(text, field.kind)
        kept = kept.with_columns(form.alias(f"f{number}"))
        if field.kind == "name":
            kept = kept.with_columns(_names(form).alias(f"names{number}"))
    return kept


def _form(text: pl.DataFrame, kind: Kind) -> pl.Series:
    plain = text.select(_normaliser(kind).alias("x"))["x"]
    if kind == "phone":
        return plain.str.strip_chars_start("0").replace("", None)
    if kind == "email":
        return plain
    distinct = plain.drop_nulls().unique()
    spelt = pl.DataFrame({"x": distinct, "_form": [latin(value) or None for value in distinct.to_list()]})
    joined = plain.to_frame("x").join(
        spelt.cast({"x": pl.String, "_form": pl.String}), on="x", how="left", maintain_order="left"
    )
    return joined["_form"]


@cache
def _normaliser(kind: Kind) -> pl.Expr:
    """The sync's own normaliser over the column `x`."""
    tree = normalisers.for_polars(sqlglot.parse_one(f'{_NORMALISERS[kind]}("x")', dialect="duckdb"))
    return pl.sql_expr(tree.sql(dialect=PolarsSQL))


@lru_cache(maxsize=1 << 16)
def latin(text: str) -> str:
    """The text in small Latin letters and digits, whatever its script; one space between words."""
    from anyascii import anyascii

    letters = "".join(c if c.isalnum() else " " for c in anyascii(text).lower())
    return " ".join(letters.split())


def _names(form: pl.Series) -> pl.Series:
    """For each name itself and the full names it may be short for."""
    distinct = form.drop_nulls().unique()
    known = pl.DataFrame(
        {"x": distinct, "_names": [_called(value) for value in distinct.to_list()]},
        schema={"x": pl.String, "_names": pl.List(pl.String)},
    )
    return form.to_frame("x").join(known, on="x", how="left", maintain_order="left")["_names"]


@cache
def _namer() -> object:
    from nicknames import NickNamer

    return NickNamer()


@lru_cache(maxsize=1 << 16)
def _called(name: str) -> list[str]:
    found: set[str] = _namer().canonicals_of(name) or set()  # type: ignore[attr-defined]
    return sorted({name, *found})
