"""What fits a staged column and what does not."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

from sync_platform.errors import ContractError
from sync_platform.staging.canonical import canonical, check_names, fit


@pytest.mark.parametrize(
    ("given", "staged"),
    [
        (pa.int8(), pa.int64()),
        (pa.uint32(), pa.int64()),
        (pa.uint64(), pa.decimal128(20, 0)),
        (pa.float32(), pa.float64()),
        (pa.large_string(), pa.string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.timestamp("ns", tz="Europe/Berlin"), pa.timestamp("us", tz="UTC")),
        (pa.timestamp("s"), pa.timestamp("us")),
        (pa.date64(), pa.date32()),
        (pa.list_(pa.string()), pa.string()),
        (pa.decimal128(38, 9), pa.decimal128(38, 9)),
        (pa.duration("s"), None),
        (pa.decimal256(60, 2), None),
    ],
)
def test_every_arrow_type_has_one_staged_type_or_none(given: pa.DataType, staged: pa.DataType | None) -> None:
    assert canonical(given) == staged


@pytest.mark.parametrize(
    ("values", "staged", "expected"),
    [
        (pa.array([1.0, None, 3.0]), pa.int64(), [1, None, 3]),
        (pa.array([1, 2], pa.int8()), pa.float64(), [1.0, 2.0]),
        (pa.array([7]), pa.string(), ["7"]),
        (pa.array([Decimal("1.5")]), pa.decimal128(38, 9), [Decimal("1.500000000")]),
        (pa.array([None, None]), pa.date32(), [None, None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), pa.string(), ["a", "b", "a"]),
        (pa.array([[1, 2], None]), pa.string(), ["[1,2]", None]),
        (pa.array([{"a": "ü"}]), pa.string(), ['{"a":"ü"}']),
        (pa.array([2**63 + 1], pa.uint64()), pa.decimal128(20, 0), [Decimal(2**63 + 1)]),
    ],
)
def test_values_that_fit_are_stored_exactly(values: pa.Array, staged: pa.DataType, expected: list[object]) -> None:
    fitted = fit(pa.table({"x": values}), {"x": staged}, "crm/Lead")
    assert fitted.schema.field("x").type == staged
    assert fitted.column("x").to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "staged", "named"),
    [
        (pa.array([1.0, 2.0, 1.5, 2.5]), pa.int64(), "1.5"),
        (pa.array(["1"]), pa.int64(), "'1'"),
        (pa.array([1.5]), pa.string(), "1.5"),
        (pa.array([2**60 + 1]), pa.float64(), str(2**60 + 1)),
        (pa.array([Decimal("1.234")]), pa.decimal128(10, 2), "1.234"),
        (pa.array([dt.datetime(2026, 1, 1)]), pa.timestamp("us", tz="UTC"), "2026"),
        (pa.array([1], pa.timestamp("ns")), pa.timestamp("us"), "1970"),
        (pa.array([True]), pa.int64(), "True"),
    ],
)
def test_the_first_value_that_does_not_fit_is_named(values: pa.Array, staged: pa.DataType, named: str) -> None:
    with pytest.raises(ContractError) as caught:
        fit(pa.table({"x": values}), {"x": staged}, "crm/Lead")
    assert caught.value.field == "x"
    assert named in caught.value.message
    assert "crm/Lead" in caught.value.message


@pytest.mark.parametrize("names", [["Email", "EMAIL"], ["_key"], ["_HASH"], [""], ["a\nb"]])
def test_names_the_lake_cannot_keep_apart_are_refused(names: list[str]) -> None:
    with pytest.raises(ContractError):
        check_names(names, "crm/Lead")
