"""Values on their way to HubSpot and back."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from sync_platform.connectors.hubspot.values import moment_of, record_of, tables, wire_value
from sync_platform.errors import ContractError, RecordError


@pytest.mark.parametrize(
    ("value", "kind", "sent"),
    [
        (None, "", ""),
        (True, "", "true"),
        (False, "", "false"),
        (1500.0, "", "1500"),
        (1e21, "", "1000000000000000000000"),
        (0.1, "", "0.1"),
        (Decimal("12.3400"), "", "12.34"),
        (Decimal("-0"), "", "0"),
        (7, "", "7"),
        ("1500.0", "number", "1500"),
        ("1500.0", "string", "1500.0"),
        ("many", "number", "many"),
        ("TRUE", "bool", "true"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "datetime", "2026-01-02T03:04:05Z"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=dt.UTC), "datetime", "2026-01-02T03:04:05.678Z"),
        (dt.datetime(2026, 1, 2, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), "date", "2026-01-02"),
        ("2026-01-02 03:04:05.000000", "datetime", "2026-01-02T03:04:05Z"),
        ("1700000000000", "datetime", "1700000000000"),
        (dt.date(2026, 1, 2), "", "2026-01-02"),
        (["a", "b"], "", "a;b"),
        (" spaces stay ", "", " spaces stay "),
    ],
)
def test_a_value_is_sent_in_the_form_hubspot_answers(value: object, kind: str, sent: str) -> None:
    assert wire_value("field", value, kind) == sent


@pytest.mark.parametrize("value", [float("nan"), float("inf"), dt.datetime(2026, 1, 1), {"a": 1}])
def test_a_value_without_a_form_at_hubspot_is_the_records_fault_and_names_the_field(value: object) -> None:
    with pytest.raises(RecordError) as refused:
        wire_value("age", value)
    assert refused.value.field == "age"
    assert refused.value.mend


def test_a_cleared_value_and_one_never_set_are_both_null() -> None:
    row = record_of({"id": 5, "properties": {"a": "", "b": None, "c": "x"}, "updatedAt": "2026-01-01T00:00:00Z"}, "m")
    assert row == {"id": "5", "a": None, "b": None, "c": "x", "m": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}


def test_a_property_that_was_not_answered_is_absent_and_not_null() -> None:
    rows = [{"id": "1", "a": "x", "b": None}, {"id": "2", "a": "y"}, {"id": "3", "a": "z", "b": "w"}]
    made = tables(rows, ("a", "b"), None)
    assert [table.column_names for table in made] == [["id", "a", "b"], ["id", "a"]]
    assert [table["id"].to_pylist() for table in made] == [["1", "3"], ["2"]]


def test_a_time_may_be_iso_text_or_milliseconds() -> None:
    assert moment_of("1700000000123") == moment_of("2023-11-14T22:13:20.123Z")
    assert moment_of("") is None
    with pytest.raises(ContractError):
        moment_of("yesterday")
