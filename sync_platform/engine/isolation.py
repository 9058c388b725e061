"""Finds the records that make an expression fail, so that the others go on."""

from __future__ import annotations

from typing import Final

import polars as pl

from sync_platform.errors import ConfigError

_MOST: Final = 4096  # evaluations of one field; more means that the rule is wrong, not the records


def isolate(frame: pl.DataFrame, value: pl.Expr, dtype: pl.DataType, name: str) -> tuple[pl.Series, pl.Series]:
    """The expression's values with null where it fails, and a boolean series saying where.

    Halves the frame until a failing record stands alone. Raises ConfigError when it fails on so many
    records that the expression itself must be wrong.
    """
    values: list[pl.Series] = []
    bad: list[pl.Series] = []
    left = [frame]
    spent = 0
    while left:
        part = left.pop()
        spent += 1
        try:
            values.append(part.with_columns(value.alias("_value"))["_value"].cast(dtype))
            bad.append(pl.repeat(False, part.height, dtype=pl.Boolean, eager=True))
        except pl.exceptions.PolarsError as error:
            if spent > _MOST:
                raise ConfigError(
                    f"the mapping of {name} fails on most records: {str(error).splitlines()[0]}",
                    field=name,
                    mend="mend the expression, or use TRY_CAST where a value may not fit",
                ) from error
            if part.height == 1:
                values.append(pl.Series([None], dtype=dtype))
                bad.append(pl.Series([True]))
            else:
                half = part.height // 2
                left += [part[half:], part[:half]]
    if not values:
        return pl.Series([], dtype=dtype), pl.Series([], dtype=pl.Boolean)
    return pl.concat([v.rename("") for v in values]), pl.concat([b.rename("") for b in bad])
