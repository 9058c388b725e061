"""Contracts: every reason of every record, in words."""

from __future__ import annotations

import pandera.polars as pa
import polars as pl
import pytest

from sync_platform.engine.mapping import UNMAPPED_TYPE
from sync_platform.engine.validation import validate
from sync_platform.errors import ConfigError


class Contact(pa.DataFrameModel):
    email: str = pa.Field(str_matches=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
    stage: str = pa.Field(isin=["lead", "customer"], nullable=True)
    age: int = pa.Field(ge=0, le=150, nullable=True)
    name: str = pa.Field(nullable=True, str_length={"max_value": 5})

    @pa.check("name", error="a name never starts with X {really}")
    def no_x(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        return data.lazyframe.select(~pl.col(data.key).str.starts_with("X"))

    @pa.dataframe_check(error="an age needs a stage")
    def staged(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        return data.lazyframe.select(pl.col("age").is_null() | pl.col("stage").is_not_null())


class Unique(pa.DataFrameModel):
    email: str = pa.Field(unique=True, nullable=True)


ROWS = pl.DataFrame(
    {
        "_key": ["good", "null", "bad", "empty"],
        "email": ["a@b.c", None, "x@", ""],
        "stage": ["lead", "foo", None, "customer"],
        "age": [1, 200, -1, None],
        "name": ["abc", "abcdefg", "Xy", None],
    }
)


def test_every_reason_of_every_record_is_told_in_words() -> None:
    told = validate(ROWS, Contact)
    assert set(told.invalid.rows()) == {
        ("null", "email", "email is empty", None),
        ("null", "stage", "stage 'foo' is not one of: lead, customer", "foo"),
        ("null", "age", "age '200' is more than 150", "200"),
        ("null", "name", "name 'abcdefg' is longer than 5 characters", "abcdefg"),
        ("bad", "email", "email 'x@' is not a valid e-mail address", "x@"),
        ("bad", "age", "age '-1' is less than 0", "-1"),
        ("bad", "name", "a name never starts with X {really}", "Xy"),
        ("bad", "", "an age needs a stage", None),
        ("empty", "email", "email is empty", ""),
    }
    assert told.valid.rows() == [ROWS.row(0)]


def test_a_required_field_that_is_empty_is_told_once() -> None:
    told = validate(ROWS, Contact, required=["email"])
    about_email = told.invalid.filter(pl.col("field") == "email")
    assert about_email.select("_key", "reason").rows() == [
        ("null", "email field empty"),
        ("empty", "email field empty"),
        ("bad", "email 'x@' is not a valid e-mail address"),
    ]
    assert validate(ROWS, None, required=["email"]).valid["_key"].to_list() == ["good", "bad"]


def test_completeness_counts_filled_cells_of_mapped_and_required_fields() -> None:
    told = validate(ROWS, None, required=["email", "phone"])
    assert (told.cells_filled, told.cells_total) == (2 + 3 + 3 + 3, 4 * 5)


def test_what_the_mapping_set_aside_is_invalid_and_silences_the_contract() -> None:
    aside = [None, [{"field": "email", "value": "?", "reason": "email '?' is odd"}], None, None]
    told = validate(ROWS.with_columns(_unmapped=pl.Series(aside, dtype=UNMAPPED_TYPE)), Contact, required=["email"])
    assert told.invalid.filter(pl.col("_key") == "null", pl.col("field") == "email").rows() == [
        ("null", "email", "email '?' is odd", "?")
    ]
    assert told.valid.columns == ROWS.columns


def test_values_that_repeat_are_told_and_nulls_repeat_nothing() -> None:
    rows = pl.DataFrame({"_key": list("abcd"), "email": ["x", "x", None, None]})
    told = validate(rows, Unique)
    assert set(told.invalid["_key"]) == {"a", "b"}
    assert set(told.invalid["reason"]) == {"email 'x' is not unique"}


def test_a_contract_over_what_is_not_mapped_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="asks for stage, which is not mapped"):
        validate(ROWS.drop("stage"), Contact)
    with pytest.raises(ConfigError, match="does not fit age"):
        validate(ROWS.with_columns(pl.col("age").cast(pl.String)), Contact)


def test_no_rows_and_no_contract_are_fine() -> None:
    empty = validate(ROWS.clear(), Contact, required=["email"])
    assert (empty.valid.height, empty.invalid.height, empty.cells_total) == (0, 0, 0)
    assert validate(ROWS).invalid.height == 0
    assert validate(ROWS, Contact, required=["email"]).invalid.columns == ["_key", "field", "reason", "value"]
