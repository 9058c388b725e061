"""SQL predicates in SOQL: what is said means the same, and what cannot be said is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from salesforce_org import Where, describe

from sync_platform.connectors.salesforce.describe import shape_of
from sync_platform.connectors.salesforce.soql import condition, instant, pushable, quote
from sync_platform.errors import ConfigError

LEAD = shape_of(describe())
MIDNIGHT = "2026-03-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("sql", "soql"),
    [
        ("status = 'Open'", "Status = 'Open'"),
        ("'Open' = Status", "Status = 'Open'"),
        ("100 < Budget__c", "Budget__c > 100"),
        ("Budget__c >= -1.5", "Budget__c >= -1.5"),
        ("SystemModstamp > '2026-03-01T02:00:00+02:00'", f"SystemModstamp > {MIDNIGHT}"),
        ("SystemModstamp > TIMESTAMP WITH TIME ZONE '2026-03-01 00:00:00+00:00'", f"SystemModstamp > {MIDNIGHT}"),
        ("SystemModstamp > CAST('2026-03-01 00:00:00+00' AS TIMESTAMPTZ)", f"SystemModstamp > {MIDNIGHT}"),
        ("SystemModstamp > TIMESTAMPTZ '2026-03-01 00:00:00+00'", f"SystemModstamp > {MIDNIGHT}"),
        ("SystemModstamp >= DATE '2026-03-01'", f"SystemModstamp >= {MIDNIGHT}"),
        ("Born__c < '2026-03-01'", "Born__c < 2026-03-01"),
        ("Born__c = TIMESTAMP '2026-03-01 00:00:00'", "Born__c = 2026-03-01"),
        ("Status IN ('Open', 'O''Hara')", "Status IN ('Open', 'O\\'Hara')"),
        ("Staff NOT IN (1, 2)", "(Staff NOT IN (1, 2)) AND (Staff != null)"),
        ("Status <> 'Open'", "(Status != 'Open') AND (Status != null)"),
        ("Email IS NULL", "Email = null"),
        ("Email IS NOT NULL", "Email != null"),
        ("Email LIKE 'a%'", "Email LIKE 'a%'"),
        ("Email NOT LIKE 'a%'", "(NOT Email LIKE 'a%') AND (Email != null)"),
        ("NOT (Email NOT LIKE 'a%')", "Email LIKE 'a%'"),
        ("Email NOT ILIKE 'a%'", "(NOT Email LIKE 'a%') AND (Email != null)"),
        ("Staff BETWEEN 1 AND 5", "(Staff >= 1) AND (Staff <= 5)"),
        ("IsDeleted", "IsDeleted = TRUE"),
        ("NOT IsDeleted", "IsDeleted = FALSE"),
        ("IsDeleted = false", "IsDeleted = FALSE"),
        ("Staff = 1 AND (Staff = 2 OR Staff = 3)", "(Staff = 1) AND ((Staff = 2) OR (Staff = 3))"),
        ("NOT (Staff = 1 OR Staff > 5)", "((Staff != 1) AND (Staff != null)) AND (Staff <= 5)"),
    ],
)
def test_a_predicate_is_said_in_soql(sql: str, soql: str) -> None:
    assert condition(sql, LEAD) == soql


@pytest.mark.parametrize(
    "sql",
    [
        "lower(Email) = 'x'",
        "Email = FirstName",
        "Staff + 1 > 2",
        "Email > 'a'",
        "Notes = 'x'",
        "Staff = 'many'",
        "Staff = 'nan'",
        "SystemModstamp > YESTERDAY",
        "SystemModstamp > 'soon'",
        "Born__c > TIMESTAMP '2026-03-01 12:00:00'",
        "Owner.Name = 'x'",
        "Email = NULL",
        "Email IN (SELECT 1)",
        "1",
        "Status =",
        "Staff BETWEEN SYMMETRIC 5 AND 1",
        "Email LIKE 'a!%' ESCAPE '!'",
        "Email LIKE ANY ('a', 'b')",
        "Status IS DISTINCT FROM 'Open'",
        "Status IN ('Open', NULL)",
        "Email = 'x' COLLATE NOCASE",
    ],
)
def test_what_soql_cannot_say_is_refused_with_a_mend(sql: str) -> None:
    with pytest.raises(ConfigError) as caught:
        condition(sql, LEAD)
    assert caught.value.mend


def test_an_unknown_field_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError, match="Emial") as caught:
        condition("Emial = 'x'", LEAD)
    assert caught.value.mend == "did you mean Email?"


def test_a_preview_takes_the_parts_that_lose_no_row_and_drops_the_rest() -> None:
    assert pushable("Staff > 1 AND lower(Email) = 'x' AND Status = 'Open'", LEAD) == "(Staff > 1) AND (Status = 'Open')"
    assert pushable("Status <> 'Open'", LEAD) is None  # Salesforce would also drop 'OPEN'
    assert pushable("lower(Email) = 'x' OR Staff > 1", LEAD) is None
    assert pushable("NOT (Status = 'Open' AND Staff = 1)", LEAD) is None


@given(st.text(max_size=30))
def test_a_quoted_text_reads_back_as_itself_and_cannot_break_out(text: str) -> None:
    text = text.replace("\b", "").replace("\f", "")
    row = {"FirstName": text}
    assert Where(f"FirstName = {quote(text)}").test(row)


def test_an_instant_is_written_in_utc_to_the_millisecond() -> None:
    zone = dt.timezone(dt.timedelta(hours=-5, minutes=-30))
    assert instant(dt.datetime(2026, 3, 1, 1, 2, 3, 456_789, tzinfo=zone)) == "2026-03-01T06:32:03.456Z"


def test_a_bound_finer_than_a_millisecond_loses_no_row_and_lets_none_in() -> None:
    fine = "'2026-03-01T00:00:00.000500+00:00'"
    assert condition(f"SystemModstamp > {fine}", LEAD).endswith("00.000Z")
    assert condition(f"SystemModstamp < {fine}", LEAD).endswith("00.001Z")
    assert condition(f"SystemModstamp >= {fine}", LEAD).endswith("00.001Z")
    assert condition(f"SystemModstamp <= {fine}", LEAD).endswith("00.000Z")


PARTS = [
    "Staff = 1",
    "Staff <> 1",
    "Staff > 1",
    "Staff BETWEEN 1 AND 2",
    "Staff IN (1, 3)",
    "Staff IS NULL",
    "Status = 'a'",
    "Status LIKE 'a%'",
    "Status NOT LIKE 'a%'",
    "Status IS NOT NULL",
    "Status NOT IN ('a')",
]
ROWS = [{"Staff": staff, "Status": status} for staff in (None, 1, 2, 3) for status in (None, "a", "b", "ab")]
predicates = st.recursive(
    st.sampled_from(PARTS),
    lambda inner: st.one_of(
        inner.map(lambda one: f"NOT ({one})"),
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def leads() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as database:
        database.execute("CREATE TABLE leads (n INT, Staff INT, Status TEXT)")
        database.executemany("INSERT INTO leads VALUES (?, ?, ?)", [(i, *row.values()) for i, row in enumerate(ROWS)])
        yield database


@given(sql=predicates)
@settings(max_examples=100, deadline=None)
def test_soql_lets_through_exactly_the_rows_sql_does_nulls_and_all(leads: duckdb.DuckDBPyConnection, sql: str) -> None:
    wanted = {n for (n,) in leads.execute(f"SELECT n FROM leads WHERE {sql}").fetchall()}
    test = Where(condition(sql, LEAD)).test
    assert {n for n, row in enumerate(ROWS) if test(row)} == wanted
