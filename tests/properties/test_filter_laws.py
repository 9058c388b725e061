"""Laws of filters: SQL's three-valued logic, and days that begin when they begin."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_platform.engine.filters import Filter
from tests.properties import reference as ref

SCHEMA = pa.schema([("At", pa.timestamp("us", "UTC")), ("Day", pa.date32()), ("n", pa.int64()), ("s", pa.string())])
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Africa/Cairo", "America/Havana"]
)
INSTANTS = st.datetimes(
    dt.datetime(2024, 1, 1), dt.datetime(2026, 12, 31), timezones=st.just(dt.UTC)
) | st.sampled_from([dt.datetime(2026, 3, 29, h, m, tzinfo=dt.UTC) for h in range(24) for m in (0, 1, 59)])


@st.composite
def predicates(draw: st.DrawFn, depth: int = 3) -> tuple[str, ref.Predicate]:
    """A predicate as SQL and as Python."""
    kind = draw(st.sampled_from(["n", "s", "null"] if depth == 0 else ["and", "or", "not", "n", "s", "null"]))
    if kind == "n":
        limit = draw(st.integers(-1, 2))
        return f"n > {limit}", lambda r, now: ref.greater(r["n"], limit)
    if kind == "s":
        text = draw(st.sampled_from(["a", "it's", "TODAY", "x;y"]))
        quoted = text.replace("'", "''")
        return f"S = '{quoted}'", lambda r, now: ref.equal(r["s"], text)
    if kind == "null":
        return "n IS NULL", lambda r, now: r["n"] is None
    one, left = draw(predicates(depth - 1))
    if kind == "not":
        return f"NOT ({one})", lambda r, now: ref.sql_not(left(r, now))
    two, right = draw(predicates(depth - 1))
    if kind == "and":
        return f"({one}) AND ({two})", lambda r, now: ref.sql_and(left(r, now), right(r, now))
    return f"({one}) OR ({two})", lambda r, now: ref.sql_or(left(r, now), right(r, now))


@settings(max_examples=60, deadline=None)
@given(predicates(), st.sampled_from([None, -1, 0, 1, 2]), st.sampled_from([None, "a", "it's", "TODAY", "x;y"]))
def test_a_filter_keeps_three_valued_logic(predicate: tuple[str, ref.Predicate], n: int | None, s: str | None) -> None:
    sql, python = predicate
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    text = Filter.parse(sql, SCHEMA).duckdb(now, "UTC")
    con = duckdb.connect()
    con.execute("CREATE TABLE t (n BIGINT, s VARCHAR)")
    con.execute("INSERT INTO t VALUES (?, ?)", [n, s])
    assert con.execute(f"SELECT {text} FROM t").fetchone() == (python({"n": n, "s": s}, now),)


@settings(max_examples=80, deadline=None)
@given(INSTANTS, ZONES, st.integers(-400, 400))
def test_a_date_word_is_the_first_instant_of_that_local_day(now: dt.datetime, zone: str, days: int) -> None:
    word = f"LAST_N_DAYS:{-days}" if days <= 0 else f"NEXT_N_DAYS:{days}"
    start = ref.first_instant_of(now.astimezone(ZoneInfo(zone)).date() + dt.timedelta(days=days), zone)
    con = duckdb.connect()
    con.execute("SET TimeZone = 'Asia/Tokyo'")  # the session's zone must not matter
    text = Filter.parse(f"At >= {word}", SCHEMA).duckdb(now, zone)
    for moment, inside in ((start, True), (start - dt.timedelta(microseconds=1), False)):
        answer = con.execute(f'SELECT {text} FROM (SELECT CAST(? AS TIMESTAMPTZ) AS "At")', [moment.isoformat()])
        assert answer.fetchone() == (inside,)
    date = now.astimezone(ZoneInfo(zone)).date() + dt.timedelta(days=days)
    on_day = Filter.parse(f"Day = {word}", SCHEMA).duckdb(now, zone)
    assert con.execute(f'SELECT {on_day} FROM (SELECT CAST(? AS DATE) AS "Day")', [date]).fetchone() == (True,)
