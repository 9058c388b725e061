"""SQL predicates as HubSpot search filters."""

from __future__ import annotations

from typing import Any

import pytest

from sync_platform.connectors.hubspot.filters import filter_groups


def one(name: str, operator: str, **more: Any) -> dict[str, Any]:
    return {"propertyName": name, "operator": operator, **more}


@pytest.mark.parametrize(
    ("predicate", "groups"),
    [
        ("a = 'x'", [[one("a", "EQ", value="x")]]),
        ("3 < n", [[one("n", "GT", value="3")]]),
        ("n >= -2.5", [[one("n", "GTE", value="-2.5")]]),
        ("a <> 'x'", [[one("a", "NEQ", value="x"), one("a", "HAS_PROPERTY")]]),
        ("a IS NULL", [[one("a", "NOT_HAS_PROPERTY")]]),
        ("a IS NOT NULL", [[one("a", "HAS_PROPERTY")]]),
        ("a IN ('X', 'y')", [[one("a", "IN", values=["x", "y"])]]),
        ("a NOT IN ('x')", [[one("a", "NOT_IN", values=["x"]), one("a", "HAS_PROPERTY")]]),
        ("n BETWEEN 1 AND 5", [[one("n", "BETWEEN", value="1", highValue="5")]]),
        (
            "a = 'x' AND (n > 1 OR n < 0)",
            [
                [one("a", "EQ", value="x"), one("n", "GT", value="1")],
                [one("a", "EQ", value="x"), one("n", "LT", value="0")],
            ],
        ),
        (
            "NOT (a = 'x' OR n > 1)",
            [[one("a", "NEQ", value="x"), one("a", "HAS_PROPERTY"), one("n", "LTE", value="1")]],
        ),
        ("m > TIMESTAMPTZ '2023-11-14T22:13:20Z'", [[one("m", "GT", value="1700000000000")]]),
        ("b = true", [[one("b", "EQ", value="true")]]),
    ],
)
def test_a_predicate_becomes_a_disjunction_of_conjunctions(predicate: str, groups: list[Any]) -> None:
    assert filter_groups(predicate) == [{"filters": each} for each in groups]


def test_a_conjunct_without_an_equal_is_left_out_because_that_only_widens_the_answer() -> None:
    assert filter_groups("a = 'x' AND length(a) > 3") == [{"filters": [one("a", "EQ", value="x")]}]


@pytest.mark.parametrize(
    "predicate",
    [
        "a LIKE 'x%'",
        "a = 'x' OR length(a) > 3",
        "a = b",
        "NOT (a = 'x' AND length(a) > 3)",
        " OR ".join(f"a = '{n}'" for n in range(6)),
        " AND ".join(f"a{n} = '1'" for n in range(7)),
        "a IN (" + ", ".join(f"'{n}'" for n in range(101)) + ")",
        "this is ( not sql",
    ],
)
def test_what_hubspot_cannot_say_within_its_limits_is_none(predicate: str) -> None:
    assert filter_groups(predicate) is None
