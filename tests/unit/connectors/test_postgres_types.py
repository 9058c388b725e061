"""What PostgreSQL would round, cut or pad is refused with its reason; what it cannot give is said before a read."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from sync_platform.connectors.postgres import Postgres
from sync_platform.engine.losses import losses
from sync_platform.errors import ContractError
from sync_platform.model import Change, Field, Op, Status

Connect = Callable[..., Postgres]
FINE = dt.datetime(2024, 1, 1, 10, 0, 0, 500, dt.UTC)


def outcome(postgres: Postgres, values: pa.Array) -> tuple[str, str | None]:
    """What became of the first value as `v` of a new row."""
    part = pa.table({"_key": ["a"], "_target_id": pa.nulls(1, pa.string()), "id": [1], "v": values})
    (row,) = postgres.write_bulk("t", "create", part, uuid.uuid4().hex).to_pylist()
    return row["_status"], row["_reason"]


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("timestamptz(3)", pa.array([FINE]), "finer than timestamp(3) with time zone keeps"),
        ("timestamp(0)", pa.array([FINE.replace(tzinfo=None)]), "finer than timestamp(0)"),
        ("time(0)", pa.array([FINE.time()]), "finer than time(0)"),
        ("char(5)", pa.array(["a "]), "ends with a space"),
        ("varchar(3)", pa.array(["abc "]), "longer than the 3 characters"),
        ("name", pa.array(["ö" * 32]), "longer than the 63 bytes"),
        ("numeric(50,2)", pa.array(["1.005"]), "finer than numeric(50,2)"),
    ],
)
def test_a_value_that_would_be_stored_as_another_one_is_refused(
    sql: psycopg.Connection, connect: Connect, kind: str, value: pa.Array, reason: str
) -> None:
    sql.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {kind})".encode())
    postgres = connect()
    status, why = outcome(postgres, value)
    assert status == Status.FAILED
    assert reason in str(why)
    sql.execute("INSERT INTO t VALUES (1)")
    one = Change(op=Op.UPDATE, key="a", token="t1", target_id="1", fields={"v": value.to_pylist()[0]})
    (few,) = postgres.write("t", [one])
    stored = sql.execute("SELECT v FROM t").fetchone()
    assert stored == (None,), "the short way of a few rows must refuse it, too"
    assert few.status is Status.FAILED


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("timestamptz(3)", pa.array([FINE.replace(microsecond=500_000)])),
        ("char(5)", pa.array([" a"])),
        ("numeric(50,2)", pa.array(["1.0100"])),
        ("numeric(50,2)", pa.array(["NaN"])),
        ("numeric(50,2)", pa.array([".5"])),
        ("name", pa.array(["ö" * 31])),
    ],
)
def test_a_value_that_fits_exactly_is_taken(
    sql: psycopg.Connection, postgres: Postgres, kind: str, value: pa.Array
) -> None:
    sql.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {kind})".encode())
    assert outcome(postgres, value) == (Status.APPLIED, None)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("date", "0044-03-15 BC"),
        ("timestamptz", "294276-12-31 23:59:59.999999Z"),
        ("timestamp", "10000-01-01"),
        ("time", "24:00"),
        ("numeric(10,2)", "NaN"),
    ],
)
def test_what_no_calendar_or_number_of_ours_has_stops_the_read_and_can_be_read_as_text(
    sql: psycopg.Connection, connect: Connect, kind: str, value: str
) -> None:
    sql.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {kind})".encode())
    sql.execute(f"INSERT INTO t VALUES (1, '{value}')".encode())
    field = Field.from_arrow(connect().discover("t").field("v"))
    assert "stops the read; `as_text` keeps" in field.reads, "it must be told by `check` before anything runs"
    with pytest.raises(ContractError) as caught:
        list(connect().read("t"))
    assert "as_text" in str(caught.value.mend)
    texts = connect(tables={"t": {"as_text": ["v"]}})
    (page,) = texts.read("t")
    sql.execute("UPDATE t SET v = NULL")
    part = page.table.drop_columns(["id"]).append_column("_key", pa.array(["1"]))
    told = texts.write_bulk("t", "update", part.append_column("_target_id", pa.array(["1"])), "d")
    assert told["_status"].to_pylist() == ["applied"]
    assert sql.execute(f"SELECT v = '{value}' FROM t".encode()).fetchone() == (True,)


def test_infinity_is_read_as_the_end_of_the_calendar_and_check_says_so(
    sql: psycopg.Connection, postgres: Postgres
) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, d date, at timestamptz)")
    sql.execute("INSERT INTO t VALUES (1, 'infinity', 'infinity'), (2, '-infinity', '-infinity')")
    (page,) = postgres.read("t")
    assert page.table["d"].to_pylist() == [dt.date(9999, 12, 31), dt.date(1, 1, 1)]
    assert page.table["at"].to_pylist()[1] == dt.datetime(1, 1, 1, tzinfo=dt.UTC)
    field = Field.from_arrow(postgres.discover("t").field("at"))
    assert any("infinity and -infinity are read as" in loss for loss in losses(field, field))


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("timestamptz", "timestamptz(0)", "finer than 0 digits"),
        ("time", "time(3)", "finer than 3 digits"),
        ("text", "uuid", "not written like uuid are refused"),
        ("json", "jsonb", "not written like jsonb are refused"),
        ("text", "name", "more than 63 bytes are refused"),
        ("text", "char(3)", "spaces at the end are refused"),
        ("interval", "interval(0)", "may be rounded"),
        ("numeric", "numeric(50,2)", "not written like numeric(50,2)"),
        ("money", "money", "lc_monetary"),
    ],
)
def test_check_says_what_a_column_does_not_keep(
    sql: psycopg.Connection, postgres: Postgres, source: str, target: str, words: str
) -> None:
    sql.execute(f"CREATE TABLE t (id int PRIMARY KEY, s {source}, t {target})".encode())
    fields = {f.name: Field.from_arrow(f) for f in postgres.discover("t")}
    assert any(words in loss for loss in losses(fields["s"], fields["t"])), losses(fields["s"], fields["t"])


@pytest.mark.parametrize(
    "kind", ["integer", "numeric", "numeric(50,2)", "text", "uuid", "jsonb", "interval", "integer[]", "inet", "bit(3)",
             "bytea", "real", "varchar(5)", "int4range"],
)  # fmt: skip
def test_nothing_is_said_of_a_type_that_keeps_everything(
    sql: psycopg.Connection, postgres: Postgres, kind: str
) -> None:
    sql.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {kind})".encode())
    field = Field.from_arrow(postgres.discover("t").field("v"))
    assert losses(field, field) == []


def test_generated_and_identity_columns_are_read_and_never_written(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute(
        """CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, net numeric(10,2),
           gross numeric(10,2) GENERATED ALWAYS AS (net * 2) STORED,
           half numeric(10,2) GENERATED ALWAYS AS (net / 2) VIRTUAL,
           serial int GENERATED BY DEFAULT AS IDENTITY)"""
    )
    fields = {f.name: Field.from_arrow(f) for f in postgres.discover("t")}
    assert {name for name, field in fields.items() if field.readonly} == {"id", "gross", "half"}
    part = pa.table({"_key": ["a"], "_target_id": pa.nulls(1, pa.string()), "net": [Decimal("1.50")]})
    assert postgres.write_bulk("t", "create", part, "d1")["_status"].to_pylist() == ["applied"]
    (page,) = postgres.read("t")
    row: dict[str, Any] = page.table.to_pylist()[0]
    assert (row["gross"], row["half"], row["serial"]) == (Decimal("3.00"), Decimal("0.75"), 1)


def test_a_partitioned_table_is_read_and_written_as_one(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute("CREATE TABLE t (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)")
    for year in (2023, 2024):
        sql.execute(f"CREATE TABLE t{year} PARTITION OF t FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')")
    part = pa.table(
        {
            "_key": ["a", "b", "c"],
            "_target_id": pa.nulls(3, pa.string()),
            "id": [1, 2, 3],
            "at": [dt.date(2023, 5, 1), dt.date(2024, 5, 1), dt.date(1999, 1, 1)],
            "v": ["x", "", None],
        }
    )
    told = postgres.write_bulk("t", "create", part, "d1").to_pylist()
    assert [row["_status"] for row in told] == ["applied", "applied", "failed"]
    assert "no partition" in told[2]["_reason"]
    rows = [row for page in postgres.read("t") for row in page.table.to_pylist()]
    assert [(row["id"], row["v"]) for row in rows] == [(1, "x"), (2, "")]
