"""Contracts: which mapped records a target may be given, and in plain words why the others may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaError, SchemaErrorReason, SchemaErrors

from sync_platform.engine.complaints import VALUE, sentence
from sync_platform.engine.known_values import known_values
from sync_platform.errors import ConfigError
from sync_platform.model import KEY

UNMAPPED: Final = "_unmapped"
INVALID_SCHEMA: Final = {KEY: pl.String, "field": pl.String, "reason": pl.String, "value": pl.String}
_EMPTY_WORDS: Final = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """The answer of `validate`.

    `valid`: the rows as given, without `_unmapped`. `invalid`: `_key`, `field`, `reason`, `value`, one row per
    reason. `cells_filled` of `cells_total` mapped and required cells hold a value.
    """

    valid: pl.DataFrame
    invalid: pl.DataFrame
    cells_filled: int
    cells_total: int


def validate(
    desired: pl.DataFrame, model: type[pa.DataFrameModel] | None = None, required: Sequence[str] = ()
) -> Validated:
    """Splits mapped rows by a pandera model and the target's required fields.

    A field reported as empty, or as not convertible by the mapping, gets no further reasons. A required
    field that the frame does not have at all was not answered by the source: it counts as unfilled only.
    Raises ConfigError when the model asks for a column that is not mapped, or for another type.
    """
    fields = [name for name in desired.columns if not name.startswith("_")]
    required = list(dict.fromkeys(required))
    parts = [_unmapped(desired), *[_empty(desired, name) for name in required if name in fields]]
    if model is not None:
        parts += _contract(desired.select(fields), desired.get_column(KEY), model)
    reasons = pl.concat([p for p in parts if p.height] or [pl.DataFrame(schema=_ORDERED)])
    invalid = _one_kind_each(reasons)
    valid = desired.drop(UNMAPPED, strict=False)
    if invalid.height:
        valid = valid.join(invalid.select(KEY).unique(), on=KEY, how="anti", maintain_order="left")
    counted = list(dict.fromkeys([*fields, *required]))
    return Validated(
        valid=valid,
        invalid=invalid,
        cells_filled=_filled(desired, [name for name in counted if name in fields]),
        cells_total=desired.height * len(counted),
    )


#: Reasons while they are collected: `_rank` orders what silences what: mapping, required, empty, contract.
_ORDERED: Final = {**INVALID_SCHEMA, "_rank": pl.Int8}


def _is_empty(frame: pl.DataFrame, name: str) -> pl.Expr:
    column = pl.col(name)
    return column.is_null() | (column == "") if frame.schema[name] == pl.String else column.is_null()


def _filled(frame: pl.DataFrame, names: Sequence[str]) -> int:
    if not names or not frame.height:
        return 0
    return int(frame.select(pl.sum_horizontal([(~_is_empty(frame, n)).sum() for n in names])).item())


def _reasons(keys: pl.Series, field: str, reason: pl.Expr | str, value: pl.Series, rank: int) -> pl.DataFrame:
    frame = pl.DataFrame({KEY: keys.cast(pl.String), "value": value.cast(pl.String, strict=False)})
    text = pl.lit(reason) if isinstance(reason, str) else reason
    return frame.select(
        KEY, pl.lit(field).alias("field"), text.alias("reason"), "value", pl.lit(rank, dtype=pl.Int8).alias("_rank")
    )


def _unmapped(desired: pl.DataFrame) -> pl.DataFrame:
    if UNMAPPED not in desired.columns or desired.get_column(UNMAPPED).null_count() == desired.height:
        return pl.DataFrame(schema=_ORDERED)
    return (
        desired.select(KEY, UNMAPPED)
        .drop_nulls(UNMAPPED)
        .explode(UNMAPPED)
        .unnest(UNMAPPED)
        .select(KEY, "field", "reason", "value", pl.lit(0, dtype=pl.Int8).alias("_rank"))
    )


def _empty(desired: pl.DataFrame, name: str) -> pl.DataFrame:
    rows = desired.filter(_is_empty(desired, name))
    return _reasons(rows[KEY], name, f"{name} field {_EMPTY_WORDS}", rows[name], 1)


def _one_kind_each(reasons: pl.DataFrame) -> pl.DataFrame:
    """Per record and field only the reasons of the first kind, each once."""
    if not reasons.height:
        return pl.DataFrame(schema=INVALID_SCHEMA)
    first = reasons.filter(pl.col("_rank") == pl.col("_rank").min().over(KEY, "field"))
    return first.select(*INVALID_SCHEMA).unique(maintain_order=True)


def _contract(fields: pl.DataFrame, keys: pl.Series, model: type[pa.DataFrameModel]) -> list[pl.DataFrame]:
    """The reasons a pandera model gives, one frame per failed check."""
    known = known_values(model)
    if known is not None and known.cover(fields):
        return []
    try:
        model.validate(fields, lazy=True)
        if known is not None:
            known.learn(fields)
    except SchemaErrors as failed:
        return [_failure(error, fields, keys, model) for error in failed.schema_errors]
    except SchemaError as error:
        return [_failure(error, fields, keys, model)]
    return []


def _failure(error: Any, fields: pl.DataFrame, keys: pl.Series, model: type[pa.DataFrameModel]) -> pl.DataFrame:
    name = str(error.schema.name or "")
    reason = error.reason_code
    if reason is SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME:
        missing = str(error.failure_cases) if isinstance(error.failure_cases, str) else _case(error)
        raise ConfigError(
            f"the contract {model.__name__} asks for {missing}, which is not mapped",
            field=missing,
            mend=f"map {missing}, or take it out of the contract",
        )
    if reason in {SchemaErrorReason.WRONG_DATATYPE, SchemaErrorReason.COLUMN_NOT_IN_SCHEMA}:
        wrong = "is not part of it" if reason is SchemaErrorReason.COLUMN_NOT_IN_SCHEMA else _wrong_type(error, fields)
        raise ConfigError(
            f"the contract {model.__name__} does not fit {name}: {wrong}",
            field=name,
            mend="declare the type the target has, or coerce = True in the contract's Config",
        )
    output = getattr(error, "check_output", None)
    if isinstance(output, pl.LazyFrame):
        output = output.collect()
    if not isinstance(output, pl.DataFrame) or output.height != fields.height or not output.width:
        raise ConfigError(
            f"the contract {model.__name__} cannot judge {name}: {_case(error)}",
            field=name,
            mend="write checks that answer true or false for every row",
        )
    failed = ~output.to_series(output.width - 1).fill_null(True)
    is_column = name in fields.columns
    values = fields.get_column(name) if is_column else pl.repeat(None, fields.height, dtype=pl.String, eager=True)
    value = values.filter(failed)
    if reason is SchemaErrorReason.SERIES_CONTAINS_NULLS:
        return _reasons(keys.filter(failed), name, f"{name} is {_EMPTY_WORDS}", value, 2)
    if reason is SchemaErrorReason.SERIES_CONTAINS_DUPLICATES:  # what is empty repeats nothing
        failed = failed & values.is_not_null()
        told = pl.concat_str(pl.lit(f"{name} '"), pl.col("value"), pl.lit("' is not unique"))
        return _reasons(keys.filter(failed), name, told, values.filter(failed), 3)
    return _told(error.check, name if is_column else "", keys.filter(failed), value)


def _told(check: Any, name: str, keys: pl.Series, value: pl.Series) -> pl.DataFrame:
    """One failed check; text that is empty is told as empty."""
    before, _, after = sentence(check, name).partition(VALUE)
    shown = pl.col("value").str.slice(0, 200).fill_null("")
    told = pl.concat_str(pl.lit(before), shown, pl.lit(after)) if after else pl.lit(before)
    rows = _reasons(keys, name, told, value, 3)
    if value.dtype != pl.String or not name:
        return rows
    empty = pl.col("value") == ""
    return rows.with_columns(
        pl.when(empty).then(pl.lit(f"{name} is {_EMPTY_WORDS}")).otherwise(pl.col("reason")).alias("reason"),
        pl.when(empty).then(pl.lit(2, dtype=pl.Int8)).otherwise(pl.col("_rank")).alias("_rank"),
    )


def _wrong_type(error: Any, fields: pl.DataFrame) -> str:
    held = fields.schema.get(str(error.schema.name))
    return f"it wants {error.schema.dtype}, the mapping gives {held}"


def _case(error: Any) -> str:
    cases = error.failure_cases
    if isinstance(cases, pl.DataFrame) and cases.height:
        return str(cases.row(0)[0])
    return str(cases if cases is not None else error).splitlines()[0]
