"""Reading from a real MariaDB: no row lost, none cut, whatever commits late and however values look."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pymysql
import pytest

from sync_platform.connectors.mysql import MySQL
from sync_platform.errors import ConfigError, ContractError
from sync_platform.model import Deletes, Position
from tests.private_mariadb import PrivateMariaDB

Connect = Callable[..., MySQL]
Person = pymysql.cursors.Cursor
PEOPLE = "CREATE TABLE people (id BIGINT PRIMARY KEY, name TEXT, updated_at TIMESTAMP(6) NOT NULL DEFAULT now(6))"


def drain(
    mysql: MySQL, stream: str, since: Position | None = None, **options: Any
) -> tuple[list[dict], Position, bool]:
    """All rows of a read, its last position (as a JSON column would give it back) and its proof."""
    pages = list(mysql.read(stream, since, **options))
    rows = [row for page in pages for row in page.table.to_pylist()]
    last = pages[-1]
    assert last.position is not None
    assert not any(page.complete for page in pages[:-1])
    return rows, Position(json.loads(json.dumps(last.position.value))), last.complete


def ids(rows: list[dict]) -> list[int]:
    return [row["id"] for row in rows]


def test_a_full_read_gives_every_row_once_in_key_order_and_proves_it(person: Person, connect_mysql: Connect) -> None:
    person.execute(PEOPLE)
    person.execute("INSERT INTO people (id, name) SELECT seq, repeat('x', 100) FROM seq_1_to_3000")
    pages = list(connect_mysql(page_bytes=20_000).read("people"))
    assert len(pages) > 5
    assert [i for page in pages for i in page.table["id"].to_pylist()] == list(range(1, 3001))
    assert [page.complete for page in pages] == [False] * (len(pages) - 1) + [True]


def test_values_longer_than_a_packet_and_a_page_arrive_whole(
    person: Person, mariadb: PrivateMariaDB, connect_mysql: Connect
) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT, b LONGTEXT, c VARCHAR(300))")
    sizes = [0, 250, 251, 65_535, 65_536, 70_000, (1 << 24) - 5, (1 << 24) - 4, 1 << 24]
    with mariadb.setting("max_allowed_packet", 64 << 20):
        with mariadb.person("shop") as other, other.cursor() as cursor:
            for number, size in enumerate(sizes):
                row = [number, size // 2, "end"]
                cursor.execute("INSERT INTO t VALUES (%s, repeat('é', %s), %s, repeat('z', 260))", row)
        rows, _, complete = drain(connect_mysql(page_bytes=100_000), "t")
    assert complete
    assert [len(row["a"].encode()) for row in rows] == [size // 2 * 2 for size in sizes]
    assert {(row["b"], row["c"]) for row in rows} == {("end", "z" * 260)}


def test_an_empty_table_is_read_completely_with_its_columns(person: Person, mysql: MySQL) -> None:
    person.execute(PEOPLE)
    assert mysql.is_empty("people")
    (page,) = mysql.read("people")
    assert page.complete
    assert page.table.num_rows == 0
    assert page.table.column_names == ["id", "name", "updated_at"]
    person.execute("INSERT INTO people VALUES (1, 'a', '2020-01-01')")
    assert not mysql.is_empty("people")
    assert ids(drain(mysql, "people", page.position)[0]) == [1]


def test_ties_at_the_boundary_are_read_and_nothing_new_moves_nothing(person: Person, mysql: MySQL) -> None:
    person.execute(PEOPLE)
    person.execute("INSERT INTO people SELECT seq, 'x', '2024-05-01' FROM seq_1_to_50")
    _, position, complete = drain(mysql, "people")
    assert complete
    rows, again, complete = drain(mysql, "people", position)
    assert (len(rows), complete, again) == (50, False, position)  # rows that tie with the newest come again
    person.execute("INSERT INTO people VALUES (51, 'tie', '2024-05-01'), (52, 'old', '2023-01-01')")
    assert ids(drain(mysql, "people", position)[0]) == list(range(1, 52))


@pytest.mark.parametrize("seen", [True, False], ids=["sees-transactions", "plain-user"])
@pytest.mark.parametrize("kind", ["TIMESTAMP(6)", "DATETIME(6)"])
def test_a_row_committed_late_with_an_older_time_is_not_lost(
    person: Person, mariadb: PrivateMariaDB, shop: str, connect_mysql: Connect, seen: bool, kind: str
) -> None:
    person.execute(PEOPLE.replace("TIMESTAMP(6)", kind))
    if not seen:
        person.execute("CREATE OR REPLACE USER reader@'127.0.0.1' IDENTIFIED BY 'plain-reader'")
        person.execute("GRANT SELECT ON shop.* TO reader@'127.0.0.1'")
        shop = mariadb.url("shop", user="reader", password="plain-reader")
    mysql = connect_mysql(url=shop, tables={"people": {"lag_seconds": 0 if seen else 30}})
    person.execute("INSERT INTO people (id, name) VALUES (1, 'first')")
    with mariadb.person("shop") as slow, slow.cursor() as hand:
        hand.execute("SET time_zone = '+00:00'")
        slow.begin()
        hand.execute("INSERT INTO people (id, name, updated_at) VALUES (2, 'late', now(6) - INTERVAL 20 SECOND)"
                     if not seen else "INSERT INTO people (id, name) VALUES (2, 'late')")  # fmt: skip
        person.execute("SELECT sleep(1.1)")
        person.execute("INSERT INTO people (id, name) VALUES (3, 'after')")
        rows, position, _ = drain(mysql, "people")
        assert ids(rows) == [1, 3]
        slow.commit()
    rows, _, _ = drain(mysql, "people", position)
    assert 2 in ids(rows)


def test_a_late_number_below_the_newest_is_not_lost(
    person: Person, mariadb: PrivateMariaDB, connect_mysql: Connect
) -> None:
    person.execute("CREATE TABLE notes (id INT PRIMARY KEY, version BIGINT UNSIGNED NOT NULL)")
    mysql = connect_mysql(tables={"notes": {"cursor": "version"}})
    person.execute("INSERT INTO notes VALUES (1, 10)")
    _, position, _ = drain(mysql, "notes")
    with mariadb.person("shop") as slow, slow.cursor() as hand:
        person.execute("DO sleep(1.1)")
        slow.begin()
        hand.execute("INSERT INTO notes VALUES (2, 11)")
        person.execute("INSERT INTO notes VALUES (3, 12)")
        rows, position, _ = drain(mysql, "notes", position)
        assert 3 in ids(rows)
        person.execute("INSERT INTO notes VALUES (4, 13)")
        rows, position, _ = drain(mysql, "notes", position)
        assert 4 in ids(rows)
        slow.commit()
    rows, position, _ = drain(mysql, "notes", position)
    assert 2 in ids(rows)


def test_a_killed_read_resumes_behind_its_last_row_however_its_key_is_made(
    person: Person, connect_mysql: Connect
) -> None:
    person.execute(
        "CREATE TABLE t (region VARCHAR(9), mood ENUM('z','a','m'), n BIGINT UNSIGNED, code VARBINARY(4),"
        " note CHAR(200) DEFAULT 'x', PRIMARY KEY (region, mood, n, code))"
    )
    person.execute(
        "INSERT INTO t (region, mood, n, code) SELECT elt(1 + seq % 3, 'é''x', 'b\\\\', 'C'), 1 + seq DIV 3 % 3,"
        " 18446744073709551615 - seq, unhex(lpad(hex(seq), 8, '0')) FROM seq_1_to_2000"
    )
    mysql = connect_mysql(page_bytes=4_000)
    everything = [tuple(row[n] for n in ("region", "mood", "n", "code")) for row in drain(mysql, "t")[0]]
    assert len(set(everything)) == 2000
    pages = mysql.read("t")
    begun = [next(pages) for _ in range(3)]
    pages.close()
    read = [tuple(row[n] for n in ("region", "mood", "n", "code")) for page in begun for row in page.table.to_pylist()]
    rows, _, complete = drain(mysql, "t", begun[-1].position)
    assert not complete
    assert read + [tuple(row[n] for n in ("region", "mood", "n", "code")) for row in rows] == everything


def test_a_killed_incremental_read_over_ties_resumes(person: Person, connect_mysql: Connect) -> None:
    person.execute(PEOPLE)
    mysql = connect_mysql(page_bytes=10_000)
    _, start, _ = drain(mysql, "people")
    person.execute("INSERT INTO people SELECT seq, repeat('x', 50), '2024-01-01' FROM seq_1_to_1000")
    pages = mysql.read("people", start)
    first = next(pages)
    pages.close()
    rows, _, _ = drain(mysql, "people", first.position)
    assert first.table["id"].to_pylist() + ids(rows) == list(range(1, 1001))


def test_a_read_sees_one_moment_whatever_is_written_meanwhile(person: Person, connect_mysql: Connect) -> None:
    person.execute(PEOPLE)
    person.execute("INSERT INTO people (id, name) SELECT seq * 2, repeat('x', 1000) FROM seq_1_to_3000")
    pages = connect_mysql(page_bytes=10_000).read("people")
    seen = next(pages).table["id"].to_pylist()
    person.execute("DELETE FROM people WHERE id > 5000")
    person.execute("INSERT INTO people (id, name) SELECT seq * 2 + 1, 'new' FROM seq_100_to_2000")
    seen += [i for page in pages for i in page.table["id"].to_pylist()]
    assert seen == [2 * n for n in range(1, 3001)]


def test_rows_without_a_cursor_value_are_read(person: Person, mysql: MySQL) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, updated_at DATETIME)")
    person.execute("INSERT INTO t VALUES (1, NULL), (2, now())")
    rows, position, _ = drain(mysql, "t")
    assert ids(rows) == [1, 2]
    person.execute("INSERT INTO t VALUES (3, NULL)")
    assert 3 in ids(drain(mysql, "t", position)[0])


def test_a_time_in_the_far_future_does_not_hide_later_changes(person: Person, mysql: MySQL) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, updated_at DATETIME NOT NULL)")
    person.execute("INSERT INTO t VALUES (1, '9999-12-31 23:59:59'), (2, '0001-01-01')")
    rows, position, _ = drain(mysql, "t")
    assert len(rows) == 2
    person.execute("INSERT INTO t VALUES (3, now())")
    assert 3 in ids(drain(mysql, "t", position)[0])


def test_every_type_arrives_as_discovered(person: Person, mysql: MySQL) -> None:
    person.execute(
        """CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY, ti TINYINT, tu TINYINT UNSIGNED, ok TINYINT(1), s SMALLINT,
           su SMALLINT UNSIGNED, m MEDIUMINT UNSIGNED, i INT, iu INT UNSIGNED, b BIGINT, n DECIMAL(38,9),
           wide DECIMAL(65,30), f FLOAT, d DOUBLE, b1 BIT(1), b64 BIT(64), day DATE, at DATETIME(6), ts TIMESTAMP(3),
           span TIME(6), y YEAR, c CHAR(3), v VARCHAR(9) CHARACTER SET latin1, j JSON, e ENUM('a','it''s'),
           st SET('x','y'), raw BLOB, fixed BINARY(2), u UUID, ip INET6, twice BIGINT AS (i * 2) STORED)"""
    )
    person.execute(
        """INSERT INTO t (id, ti, tu, ok, s, su, m, i, iu, b, n, wide, f, d, b1, b64, day, at, ts, span, y, c, v, j, e,
           st, raw, fixed, u, ip) VALUES (18446744073709551615, -128, 255, 1, -32768, 65535, 16777215, -2147483648,
           4294967295, -9223372036854775808, 12345678901234567890123456789.123456789,
           99999999999999999999999999999999999.999999999999999999999999999999, 3.1415927, 0.1, b'1', ~0, '2024-02-29',
           '2024-01-01 10:00:00.000001', '2024-01-01 10:00:00.123', '-838:59:59.999999', 2155, 'é', 'ÿ',
           '{"a": [1, 1.0]}', 'it''s', 'y,x', x'00ff27', x'0a00', 'f0e0d0c0-0000-0000-0000-000000000001', '::1')"""
    )
    person.execute("INSERT INTO t (id) VALUES (0)")
    schema = mysql.discover("t")
    (page,) = mysql.read("t")
    assert page.table.schema.equals(schema, check_metadata=True)
    empty, row = page.table.to_pylist()
    assert all(value is None for name, value in empty.items() if name != "id")
    assert schema.field("n").type == pa.decimal128(38, 9)
    assert schema.field("wide").type == pa.string()
    expected = {
        "id": 2**64 - 1, "ti": -128, "tu": 255, "ok": True, "su": 65535, "m": 16777215, "iu": 2**32 - 1, "b": -(2**63),
        "n": Decimal("12345678901234567890123456789.123456789"), "d": 0.1, "b1": True, "b64": 2**64 - 1,
        "wide": "99999999999999999999999999999999999.999999999999999999999999999999",
        "day": dt.date(2024, 2, 29), "at": dt.datetime(2024, 1, 1, 10, 0, 0, 1),
        "ts": dt.datetime(2024, 1, 1, 10, 0, 0, 123000, dt.UTC), "span": "-838:59:59.999999", "y": 2155, "c": "é",
        "v": "ÿ", "j": '{"a": [1, 1.0]}', "e": "it's", "st": "x,y", "raw": b"\0\xff'", "fixed": b"\n\0",
        "u": "f0e0d0c0-0000-0000-0000-000000000001", "ip": "::1", "twice": -(2**32),
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["f"] == pa.scalar(3.1415927, pa.float32()).as_py()
    assert json.loads(schema.field("twice").metadata[b"sync"])["readonly"]
    assert json.loads(schema.field("e").metadata[b"sync"])["values"] == ["a", "it's"]


def test_zero_dates_are_null_or_refused_and_halves_of_dates_are_refused(person: Person, connect_mysql: Connect) -> None:
    person.execute("SET sql_mode = ''")
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, day DATE NOT NULL, at DATETIME, ts TIMESTAMP NULL)")
    person.execute(
        "INSERT INTO t VALUES (1, '0000-00-00', '0000-00-00', '0000-00-00'), (2, '2024-01-01', now(), now())"
    )
    rows, _, _ = drain(connect_mysql(), "t")
    assert [rows[0][name] for name in ("day", "at", "ts")] == [None, None, None]
    with pytest.raises(ContractError, match=r"shop\.t\.day"):
        drain(connect_mysql(zero_dates_are_null=False), "t")
    person.execute("INSERT INTO t VALUES (3, '2024-05-00', NULL, NULL)")
    with pytest.raises(ContractError) as caught:
        drain(connect_mysql(), "t")
    assert "as_text" in str(caught.value.mend)
    rows, _, _ = drain(connect_mysql(tables={"t": {"as_text": ["day"]}}), "t")
    assert [row["day"] for row in rows] == ["0000-00-00", "2024-01-01", "2024-05-00"]


def test_tinyint1_is_a_boolean_unless_it_holds_more(person: Person, connect_mysql: Connect) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, ok TINYINT(1))")
    person.execute("INSERT INTO t VALUES (1, 1), (2, 0)")
    assert [row["ok"] for row in drain(connect_mysql(), "t")[0]] == [True, False]
    person.execute("INSERT INTO t VALUES (3, 2)")
    with pytest.raises(ContractError) as caught:
        drain(connect_mysql(), "t")
    assert "tinyint1_is_boolean" in str(caught.value.mend)
    assert [row["ok"] for row in drain(connect_mysql(tinyint1_is_boolean=False), "t")[0]] == [1, 0, 2]


def test_local_times_are_read_in_their_declared_zone(person: Person, connect_mysql: Connect) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, updated_at DATETIME NOT NULL)")
    person.execute("INSERT INTO t VALUES (1, '2024-07-01 12:00'), (2, '2024-12-01 12:00')")
    for options in ({"timezone": "Europe/Berlin"}, {"tables": {"t": {"timezone": "Europe/Berlin"}}}):
        mysql = connect_mysql(**options)
        rows, position, _ = drain(mysql, "t")
        assert [row["updated_at"] for row in rows] == [
            dt.datetime(2024, 7, 1, 10, tzinfo=dt.UTC), dt.datetime(2024, 12, 1, 11, tzinfo=dt.UTC)]  # fmt: skip
        person.execute("REPLACE INTO t VALUES (3, '2024-12-01 12:00')")
        assert ids(drain(mysql, "t", position)[0]) == [2, 3]
        person.execute("DELETE FROM t WHERE id = 3")
    with pytest.raises(ConfigError, match="no time zone"):
        drain(connect_mysql(timezone="Mars/Olympus"), "t")


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_a_repeated_local_hour_loses_no_row(person: Person, connect_mysql: Connect, zone: str | None) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, updated_at DATETIME NOT NULL)")
    mysql = connect_mysql(timezone=zone, tables={"t": {"lag_seconds": 0}})
    person.execute("INSERT INTO t VALUES (1, '2024-10-27 02:59')")  # before the clocks went back
    _, position, _ = drain(mysql, "t")
    person.execute("INSERT INTO t VALUES (2, '2024-10-27 02:01')")  # two minutes later
    assert 2 in ids(drain(mysql, "t", position)[0])


def test_composite_keys_are_looked_up_to_the_byte(person: Person, mysql: MySQL) -> None:
    person.execute("CREATE TABLE items (region VARCHAR(9), n INT, note TEXT, PRIMARY KEY (region, n))")
    person.execute("INSERT INTO items VALUES ('é \"x\"', 2, 'b'), ('a', 1, 'a'), ('a', 2, NULL), ('B', 1, 'c')")
    assert mysql.stream("items").key == ("region", "n")
    wanted = [json.dumps(['é "x"', "2"]), '["a",1]', '["a",9]', '["b",1]', '["a ",2]', '["A",2]', "nonsense"]
    found = mysql.get("items", wanted, ["note"])
    assert sorted(found.to_pylist(), key=lambda r: r["n"]) == [
        {"region": "a", "n": 1, "note": "a"},
        {"region": 'é "x"', "n": 2, "note": "b"},
    ]


def test_look_ups_answer_what_the_collation_calls_equal(person: Person, mysql: MySQL) -> None:
    person.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, email VARCHAR(50) UNIQUE, n INT, odd VARCHAR(20), raw VARBINARY(3))"
    )
    person.execute("INSERT INTO t VALUES (1, 'Ann@x', 7, 'q''\"\\\\', x'00'), (2, 'bob@x', 8, 'b', 'b')")
    field = json.loads(mysql.discover("t").field("email").metadata[b"sync"])
    assert (field["unique"], field["folded"]) == (True, True)
    assert mysql.stream("t").natural_keys == ("email",)
    assert mysql.find("t", "email", ["ann@X", "none"], ["n"]).to_pylist() == [{"id": 1, "email": "Ann@x", "n": 7}]
    assert mysql.find("t", "odd", ["q'\"\\"], [])["id"].to_pylist() == [1]
    assert mysql.find("t", "raw", ["\0"], [])["id"].to_pylist() == [1]
    assert mysql.find("t", "n", ["7", "x", "99999999999999"], []).num_rows == 1
    assert mysql.find("t", "n", [], []).num_rows == 0
    assert mysql.get("t", ["2", "4", "abc"], ["email"])["id"].to_pylist() == [2]


def test_a_tombstone_column_marks_deleted_rows(person: Person, connect_mysql: Connect) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, deleted_at DATETIME, updated_at DATETIME)")
    person.execute("INSERT INTO t VALUES (1, NULL, now()), (2, now(), now())")
    mysql = connect_mysql(tables={"t": {"tombstone": "deleted_at"}})
    assert mysql.stream("t").deletes is Deletes.TOMBSTONE
    assert [row["_deleted"] for row in drain(mysql, "t")[0]] == [False, True]
    found = mysql.get("t", ["1", "2"], ["deleted_at"]).to_pylist()
    assert {row["id"]: row["_deleted"] for row in found} == {1: False, 2: True}, "a row read back for an event, too"
    assert "_deleted" not in mysql.get("t", ["1"], ["updated_at"]).column_names


def test_a_filter_is_asked_of_the_server_and_fields_keep_key_and_cursor(person: Person, mysql: MySQL) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, `Sta``tus` TEXT, other TEXT, updated_at DATETIME)")
    person.execute("INSERT INTO t VALUES (1, 'new', 'x\\\\y', now()), (2, 'old', 'y', now())")
    rows, _, complete = drain(mysql, "t", fields=["Sta`tus"], where="other = 'x\\y' AND id < 5")
    assert complete
    assert [sorted(row) for row in rows] == [["Sta`tus", "id", "updated_at"]]
    assert mysql.preview("t", "OTHER = 'n'") == "`other` = 'n'"
    assert mysql.preview("t", "nothing = 1") is None
    with pytest.raises(ConfigError, match="did you mean other"):
        drain(mysql, "t", where="othr = 'x'")


def test_keys_come_from_unique_indexes_over_whole_columns_that_are_never_null(
    person: Person, connect_mysql: Connect
) -> None:
    person.execute(
        "CREATE TABLE a (x INT, y VARCHAR(9) NOT NULL, z INT NOT NULL, UNIQUE(x), UNIQUE (y(3)), UNIQUE (z))"
    )
    person.execute("CREATE TABLE none (x INT, y VARCHAR(9) NOT NULL, UNIQUE(x), UNIQUE (y(3)))")
    person.execute("CREATE VIEW seen AS SELECT * FROM a")
    assert connect_mysql().stream("a").key == ("z",)
    assert connect_mysql().stream("a").natural_keys == ("x",)
    for name in ("none", "seen"):
        with pytest.raises(ConfigError, match="neither a primary key") as caught:
            connect_mysql().stream(name)
        assert "'key'" in str(caught.value.mend)
    assert connect_mysql(tables={"seen": {"key": ["z"]}}).stream("seen").key == ("z",)
    with pytest.raises(ConfigError, match="did you mean seen"):
        connect_mysql().stream("sen")


def test_the_probe_moves_with_every_write_and_rests_without(person: Person, mysql: MySQL) -> None:
    person.execute(PEOPLE)
    person.execute("INSERT INTO people VALUES (1, 'a', '2024-01-01')")
    first = mysql.probe("people")
    person.execute("UPDATE people SET name = 'b'")
    second = mysql.probe("people")
    assert first != second
    person.execute("DO sleep(2.1)")
    rested = mysql.probe("people")
    assert rested == mysql.probe("people")
    person.execute("DELETE FROM people")
    assert mysql.probe("people") != rested
