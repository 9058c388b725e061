"""Filters: what is understood, what is refused, and what date words stand for."""

from __future__ import annotations

import datetime as dt

import duckdb
import pyarrow as pa
import pytest

from sync_platform.engine.filters import Filter
from sync_platform.errors import ConfigError

SCHEMA = pa.schema(
    [
        ("LastModifiedDate", pa.timestamp("us", "UTC")),
        ("CloseDate", pa.date32()),
        ("Local", pa.timestamp("us")),
        ("Status", pa.string()),
        ("Amount", pa.int64()),
        ("IsConverted", pa.bool_()),
        ("Order", pa.string()),
    ]
)
NOON = dt.datetime(2026, 3, 29, 12, 0, tzinfo=dt.UTC)


def sql(text: str, now: dt.datetime = NOON, zone: str = "UTC") -> str:
    return Filter.parse(text, SCHEMA).duckdb(now, zone)


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2026-01-15T23:59:00+00:00", "2026-01-14 00:00:00+00:00"),
        ("2026-01-16T00:01:00+00:00", "2026-01-15 00:00:00+00:00"),
    ],
)
def test_yesterday_moves_at_midnight_utc(now: str, start: str) -> None:
    text = sql("LastModifiedDate > YESTERDAY", dt.datetime.fromisoformat(now))
    assert text == f"\"LastModifiedDate\" > CAST('{start}' AS TIMESTAMPTZ)"


@pytest.mark.parametrize(
    ("zone", "now", "start"),
    [
        ("Europe/Berlin", "2026-01-15T22:59:00+00:00", "2026-01-13 23:00:00+00:00"),  # 23:59 there
        ("Europe/Berlin", "2026-01-15T23:01:00+00:00", "2026-01-14 23:00:00+00:00"),  # 00:01 there
        ("Europe/Berlin", "2026-03-30T10:00:00+00:00", "2026-03-28 23:00:00+00:00"),  # the 23-hour day
        ("Europe/Berlin", "2026-10-26T10:00:00+00:00", "2026-10-24 22:00:00+00:00"),  # the 25-hour day
        ("America/New_York", "2026-03-09T12:00:00+00:00", "2026-03-08 05:00:00+00:00"),
        ("Asia/Kolkata", "2026-01-15T18:29:00+00:00", "2026-01-13 18:30:00+00:00"),
        ("Africa/Cairo", "2026-04-25T12:00:00+00:00", "2026-04-23 22:00:00+00:00"),  # midnight did not exist
    ],
)
def test_yesterday_is_the_start_of_that_day_in_the_zone(zone: str, now: str, start: str) -> None:
    assert start in sql("LastModifiedDate > YESTERDAY", dt.datetime.fromisoformat(now), zone)


@pytest.mark.parametrize(
    ("word", "day"),
    [
        ("TODAY", "2026-03-29"),
        ("tomorrow", "2026-03-30"),
        ("THIS_WEEK", "2026-03-23"),
        ("LAST_WEEK", "2026-03-16"),
        ("THIS_MONTH", "2026-03-01"),
        ("LAST_MONTH", "2026-02-01"),
        ("THIS_QUARTER", "2026-01-01"),
        ("LAST_QUARTER", "2025-10-01"),
        ("THIS_YEAR", "2026-01-01"),
        ("LAST_YEAR", "2025-01-01"),
        ("LAST_N_DAYS:7", "2026-03-22"),
        ("last_n_days : 30", "2026-02-27"),
        ("NEXT_N_DAYS:3", "2026-04-01"),
        ("TODAY - INTERVAL 2 DAY", "2026-03-27"),
        ("CURRENT_DATE - 1", "2026-03-28"),
    ],
)
def test_words_stand_for_days(word: str, day: str) -> None:
    assert sql(f"CloseDate >= {word}") == f"\"CloseDate\" >= CAST('{day}' AS DATE)"
    assert f"CAST('{day} 00:00:00+00:00' AS TIMESTAMPTZ)" in sql(f"LastModifiedDate >= {word}")


def test_a_word_in_text_or_in_a_quoted_name_is_no_date_word() -> None:
    text = "\"TODAY\" = 'LAST_N_DAYS:7' AND \"LAST_N_DAYS:7\" <> 'YESTERDAY'"
    quoted = Filter.parse(text, ["TODAY", "LAST_N_DAYS:7"])
    assert not quoted.dated
    assert quoted.fields == ("TODAY", "LAST_N_DAYS:7")
    assert quoted.duckdb(NOON, "UTC") == text


def test_a_day_before_now_keeps_the_local_hour_across_a_clock_change() -> None:
    text = sql("LastModifiedDate > NOW - INTERVAL 1 DAY", NOON, "Europe/Berlin")
    assert "2026-03-28 13:00:00+00:00" in text  # 14:00 local on both days


def test_a_time_without_offset_is_local_and_one_with_offset_is_not() -> None:
    assert "2026-06-30 22:00:00+00:00" in sql("LastModifiedDate > '2026-07-01'", zone="Europe/Berlin")
    assert "2026-07-01 10:00:00+00:00" in sql("LastModifiedDate > '2026-07-01T10:00:00Z'", zone="Europe/Berlin")
    assert "2026-06-30 22:00:00+00:00" in sql("LastModifiedDate > DATE '2026-07-01'", zone="Europe/Berlin")
    assert sql("Local > TODAY", zone="Europe/Berlin") == "\"Local\" > CAST('2026-03-28 23:00:00' AS TIMESTAMP)"


def test_text_that_holds_times_is_compared_as_times() -> None:
    text = sql("Status > TODAY")
    con = duckdb.connect()
    rows = con.execute(
        f"SELECT \"Status\" FROM (VALUES ('2026-03-29T01:00:00+01:00'), ('2026-03-28T23:59:59Z'), ('x')) t(\"Status\") "
        f"WHERE {text.replace('>', '>=')}"
    ).fetchall()
    assert rows == [("2026-03-29T01:00:00+01:00",)]


def test_names_are_found_whatever_their_case_and_quoted_where_needed() -> None:
    found = Filter.parse("lastmodifieddate > yesterday and status = 'x' and \"Order\" = '1'", SCHEMA)
    assert found.fields == ("LastModifiedDate", "Status", "Order")
    assert found.dated
    assert "LastModifiedDate > CAST('2026-03-28 00:00:00+00:00' AS TIMESTAMPTZ)" in found.absolute(NOON, "UTC")
    assert "\"Order\" = '1'" in found.absolute(NOON, "UTC")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Staus = 'x'", "did you mean Status?"),
        ("Status", "not a condition"),
        ("Amount + 1", "not a condition"),
        ("Status AND Amount > 1", "not a condition"),
        ("Status = 'x'; DROP TABLE t", "semicolon"),
        ("Status = 'x';", "semicolon"),
        ("Status IN (SELECT 1)", "a query inside it"),
        ("EXISTS (SELECT 1)", "a query inside it"),
        ("SELECT 1", "a query inside it"),
        ("read_text('/etc/passwd') = ''", "read_text"),
        ("read_csv('x') IS NULL", "read_csv"),
        ("getenv('HOME') = 'x'", "getenv"),
        ("random() > 0.5", "rand"),
        ("count(*) > 1", "several records"),
        ("row_number() OVER () = 1", "several records"),
        ("Status = ?", "'?'"),
        ("other.Status = 'x'", "another table"),
        ("Status = 'x", "not SQL"),
        ("", "is empty"),
        ("LastModifiedDate > LAST_N_DAYS", "needs a number"),
        ("LastModifiedDate > LAST_N_DAYS:x", "needs a number"),
        ("Amount > TODAY", "not a time"),
        ("LastModifiedDate = TODAY", "one instant only"),
        ("LastModifiedDate > 'soon'", "no date"),
    ],
)
def test_what_is_no_filter_is_refused_with_a_mend(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Filter.parse(text, SCHEMA).duckdb(NOON, "UTC")
    assert says in str(refused.value)
    assert refused.value.mend


@pytest.mark.parametrize(
    "text",
    [
        "IsConverted",
        "NOT IsConverted OR Amount BETWEEN 1 AND 2",
        "Status LIKE 'a!%%' ESCAPE '!' OR Status ILIKE 'b%' OR Status IN ('a', 'b')",
        "starts_with(Status, 'a') AND contains(lower(Status), 'b')",
        "coalesce(Amount, 0) > 1 AND Status IS NOT NULL",
        "CASE WHEN Amount > 1 THEN IsConverted ELSE FALSE END",
        "normalize_email(Status) = 'a@b.c' -- a comment",
    ],
)
def test_ordinary_predicates_run_in_duckdb(text: str) -> None:
    con = duckdb.connect()
    con.execute('CREATE TABLE t ("Status" VARCHAR, "Amount" BIGINT, "IsConverted" BOOLEAN)')
    assert con.execute(f"SELECT count(*) FROM t WHERE {sql(text)}").fetchone() == (0,)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="Mars/Base"):
        sql("LastModifiedDate > TODAY", zone="Mars/Base")
