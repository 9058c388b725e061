"""A contract is not asked again about values it accepted, and about everything else it is."""

from __future__ import annotations

from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from sync_platform.engine.known_values import known_values
from sync_platform.engine.validation import validate


class Plain(pa.DataFrameModel):
    """Checks of single values."""

    email: str = pa.Field(str_contains="@")
    stage: str = pa.Field(isin=["lead", "customer"], nullable=True)
    name: str = pa.Field(nullable=False)


class OwnCheck(pa.DataFrameModel):
    """A check of somebody's own."""

    email: str

    @pa.check("email")
    def short(cls, data: Any) -> pl.LazyFrame:  # noqa: N805
        """Nothing that can be remembered."""
        return data.lazyframe.select(pl.col(data.key).str.len_chars() < 10)


class Unique(pa.DataFrameModel):
    """A check of a whole column."""

    email: str = pa.Field(unique=True)


def people(*rows: tuple[str, str | None, str | None]) -> pl.DataFrame:
    columns = {"_key": pl.String, "email": pl.String, "stage": pl.String, "name": pl.String}
    return pl.DataFrame([(f"k{n}", *row) for n, row in enumerate(rows)], schema=columns, orient="row")


def refused(frame: pl.DataFrame) -> list[tuple[str, str]]:
    return sorted(validate(frame, Plain).invalid.select("_key", "field").iter_rows())


def test_values_that_were_accepted_are_known_and_new_ones_are_judged() -> None:
    known = known_values(Plain)
    assert known is not None
    first = people(("a@x", "lead", "Ada"), ("b@x", None, "Bo"))
    assert refused(first) == []
    again = people(("b@x", "lead", "somebody new"))
    assert known.cover(again.drop("_key"))
    assert refused(again) == []
    for bad, field in (
        (("nobody", "lead", "Ada"), "email"),
        (("a@x", "guest", "Ada"), "stage"),
        (("a@x", "lead", None), "name"),
    ):
        assert not known.cover(people(bad).drop("_key"))
        assert refused(people(bad)) == [("k0", field)]


def test_a_new_value_is_judged_alone_and_then_known() -> None:
    known = known_values(Plain)
    assert known is not None
    assert refused(people(("a@x", "lead", "Ada"))) == []
    schema = people().drop("_key").schema
    assert known.accept(schema, {"email": ["never@seen"], "stage": ["customer"], "name": ["Ada"]})
    assert "never@seen" in known.values["email"]
    assert not known.accept(schema, {"email": ["never seen"], "stage": ["lead"], "name": ["Ada"]})
    assert not known.accept(schema, {"email": ["a@x"], "stage": ["lead"], "name": [None]})
    assert not known.accept({**schema, "name": pl.Categorical()}, {"email": ["a@x"]})
    assert refused(people(("never seen", "lead", "Ada"))) == [("k0", "email")]


def test_what_was_refused_is_refused_again() -> None:
    for _ in range(3):
        assert refused(people(("nobody", "lead", "Ada"), ("a@x", "lead", "Ada"))) == [("k0", "email")]


def test_another_type_of_a_column_is_judged() -> None:
    validate(people(("a@x", "lead", "Ada")), Plain)
    known = known_values(Plain)
    assert known is not None
    assert not known.cover(
        people(("a@x", "lead", "Ada")).with_columns(pl.col("name").cast(pl.Categorical)).drop("_key")
    )


@pytest.mark.parametrize("model", [OwnCheck, Unique])
def test_a_contract_with_other_checks_is_always_asked(model: type[pa.DataFrameModel]) -> None:
    assert known_values(model) is None
