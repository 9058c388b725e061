"""Writing to a real MariaDB: an outcome for every row, bad rows alone, nothing cut and nothing written twice."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pymysql
import pytest
from parts import part, statuses, told

from sync_platform.connectors.connector import BulkTarget, ConditionalTarget
from sync_platform.connectors.mysql import MySQL
from sync_platform.errors import ConfigError
from sync_platform.model import Change, Op, Status
from tests.private_mariadb import PrivateMariaDB

Connect = Callable[..., MySQL]
Person = pymysql.cursors.Cursor
PEOPLE = """CREATE TABLE people (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, email VARCHAR(20) NOT NULL UNIQUE,
            age INT CHECK (age >= 0), joined TIMESTAMP(6) NULL, balance DECIMAL(8,2))"""


def asked(person: Person, sql: str) -> list[tuple[Any, ...]]:
    person.execute(sql)
    return list(person.fetchall())


def test_it_is_a_bulk_target(mysql: MySQL) -> None:
    assert isinstance(mysql, BulkTarget)


@pytest.mark.parametrize("count", [2, 300], ids=["by-insert", "by-file"])
def test_created_rows_get_their_drawn_ids_and_exact_values(person: Person, mysql: MySQL, count: int) -> None:
    person.execute(PEOPLE)
    joined = [dt.datetime(2024, 1, 1, 12, 0, 0, 5, dt.UTC), None]
    texts = ["'\"\\ 😀\t", "\0\n\r\\N"]
    rows = part([f"k{i}" for i in range(count)], email=[f"{i} {texts[i % 2]}" for i in range(count)],
                age=[1, None] * (count // 2), joined=pa.array(joined * (count // 2), pa.timestamp("us", "UTC")),
                balance=[Decimal("1.10"), Decimal("-999999.99")] * (count // 2))  # fmt: skip
    outcomes = mysql.write_bulk("people", "create", rows, "d1")
    assert outcomes.column_names == ["_key", "_target_id", "_status", "_field", "_reason"]
    assert statuses(outcomes) == ["applied"] * count
    ids = {key: row["_target_id"] for key, row in told(outcomes).items()}
    stored = {str(row[0]): row[1:] for row in asked(person, "SELECT id, email, age, joined, balance FROM people")}
    assert len(stored) == count
    for i in range(count):
        expected = (f"{i} {texts[i % 2]}", [1, None][i % 2], [joined[0].replace(tzinfo=None), None][i % 2])
        assert stored[ids[f"k{i}"]] == (*expected, [Decimal("1.10"), Decimal("-999999.99")][i % 2])


@pytest.mark.parametrize("count", [90, 300], ids=["by-insert", "by-file"])
def test_drawn_ids_are_each_rows_own_though_others_insert_and_numbers_skip(
    person: Person, mariadb: PrivateMariaDB, connect_mysql: Connect, count: int
) -> None:
    person.execute(PEOPLE)
    stop = threading.Event()

    def rival() -> None:
        with mariadb.person("shop") as other, other.cursor() as hand:
            number = 0
            while not stop.is_set():
                number += 1
                hand.execute("INSERT INTO people (email) VALUES (%s), (%s)", [f"r{number}", f"s{number}"])

    busy = threading.Thread(target=rival)
    with mariadb.setting("auto_increment_increment", 3), mariadb.setting("auto_increment_offset", 2):
        busy.start()
        try:
            mysql, ids = connect_mysql(), dict[str, str]()
            for number in range(5):
                emails = [f"{number}-{i}" for i in range(count)]
                outcomes = mysql.write_bulk("people", "create", part(emails, email=emails), f"d{number}")
                ids |= {row["_key"]: row["_target_id"] for row in outcomes.to_pylist()}
        finally:
            stop.set()
            busy.join()
    stored = dict(asked(person, "SELECT email, CAST(id AS CHAR) FROM people WHERE email LIKE '%-%'"))
    assert len(ids) == 5 * count
    assert stored == ids


@pytest.mark.parametrize("count", [2, 300], ids=["by-insert", "by-file"])
def test_a_delivery_written_twice_is_written_once_and_answers_the_same(
    person: Person, mysql: MySQL, count: int
) -> None:
    person.execute(PEOPLE)
    rows = part([f"k{i}" for i in range(count)], email=[f"a{max(i, 1)}" for i in range(count)])
    assert not mysql.delivered("people", "d1")
    first = mysql.write_bulk("people", "create", rows, "d1")
    assert mysql.delivered("people", "d1")
    assert sorted(statuses(first)) == ["applied"] * (count - 1) + ["failed"]
    assert mysql.write_bulk("people", "create", rows, "d1").equals(first)
    assert asked(person, "SELECT count(*) FROM people") == [(count - 1,)]


@pytest.mark.parametrize("loads", [True, False], ids=["by-file", "by-insert"])
def test_bad_rows_stand_alone_with_column_and_reason_and_the_rest_is_committed(
    person: Person, mariadb: PrivateMariaDB, mysql: MySQL, loads: bool
) -> None:
    person.execute(PEOPLE)
    person.execute("INSERT INTO people (email) VALUES ('Taken@x')")
    count = 1000
    emails: list[str | None] = [f"p{i}@x" for i in range(count)]
    ages, balances = list(range(count)), [Decimal("1.00")] * count
    emails[3], emails[500], emails[700], emails[701] = None, "taken@X", "x" * 21, "x" * 20 + " "
    ages[999], balances[10], balances[11] = -1, Decimal("1234567.00"), Decimal("1.005")
    rows = part(
        [str(i) for i in range(count)], email=emails, age=ages, balance=pa.array(balances, pa.decimal128(12, 3))
    )
    with mariadb.setting("local_infile", int(loads)):
        outcomes = told(mysql.write_bulk("people", "create", rows, "d1"))
    bad = {int(key): (row["_field"], row["_reason"]) for key, row in outcomes.items() if row["_status"] == "failed"}
    assert sorted(bad) == [3, 10, 11, 500, 700, 701, 999]
    assert bad[3] == ("email", "email is empty, and shop.people requires it")
    assert bad[500][0] == "email"
    assert "taken@X" in bad[500][1]
    assert "differ in case" in bad[500][1]
    assert "longer than the 20 characters" in bad[700][1]
    assert "longer than the 20 characters" in bad[701][1]
    assert "age" in bad[999][1]
    assert bad[10][0] == bad[11][0] == "balance"
    assert all(outcomes[str(i)]["_target_id"] is None for i in bad)
    assert asked(person, "SELECT count(*) FROM people") == [(count - 6,)]
    for i in (0, 501, 998):
        assert asked(person, f"SELECT age FROM people WHERE id = {outcomes[str(i)]['_target_id']}") == [(i,)]


@pytest.mark.parametrize("loads", [True, False], ids=["by-file", "by-insert"])
def test_nothing_is_cut_or_rounded_or_padded(person: Person, mysql: MySQL, loads: bool) -> None:
    person.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, n DECIMAL(5,1), wide DECIMAL(50,1), s DATETIME, ms DATETIME(3), d DATE,"
        " span TIME, y YEAR, i TINYINT UNSIGNED, c CHAR(3), b BINARY(2), e ENUM('a','b'), st SET('a','b'),"
        " latin VARCHAR(9) CHARACTER SET latin1, ok TINYINT(1), f DOUBLE, tt TINYTEXT, j JSON)"
    )
    bad = {
        "n": Decimal("1.05"), "wide": "1.05", "s": dt.datetime(2024, 1, 1, 0, 0, 0, 600_000),
        "ms": dt.datetime(2024, 1, 1, 0, 0, 0, 123_400), "d": dt.datetime(2024, 1, 1, 10), "span": "10:00:00.6",
        "y": 70, "i": 256, "c": "a ", "b": b"x", "e": "A", "st": "a,c", "latin": "😀", "ok": 2, "f": float("nan"),
        "tt": "é" * 130, "j": "{",
    }  # fmt: skip
    good = {
        "n": Decimal("1.5"), "wide": "1.5", "s": dt.datetime(2024, 1, 1),
        "ms": dt.datetime(2024, 1, 1, 0, 0, 0, 123_000), "d": dt.datetime(2024, 1, 1),
        "span": "-100:00:00", "y": 1970, "i": 255, "c": " a", "b": b"x\0", "e": "a",
        "st": "b,a", "latin": "ÿ", "ok": 1, "f": 0.1, "tt": "é" * 127, "j": "{}",
    }  # fmt: skip
    filler = 150 if loads else 0
    for number, (name, value) in enumerate(bad.items()):
        values = [good[name], value, *[good[name]] * filler]
        first = number * 1000
        keys = [str(first + i) for i in range(len(values))]
        rows = part(keys, id=range(first, first + len(values)), **{name: values})
        outcomes = mysql.write_bulk("t", "create", rows, f"d{number}")
        assert statuses(outcomes) == ["applied", "failed"] + ["applied"] * filler, (name, outcomes["_reason"][0])
        assert outcomes["_field"][1].as_py() == name
        assert outcomes["_reason"][1].as_py()
    assert asked(person, "SELECT wide, span, b, st FROM t WHERE id IN (1000, 5000, 9000, 11000) ORDER BY id") == [
        (Decimal("1.5"), None, None, None),
        (None, -dt.timedelta(hours=100), None, None),
        (None, None, b"x\0", None),
        (None, None, None, "a,b"),
    ]


def test_an_update_sets_only_the_given_columns_and_only_where_they_differ(person: Person, mysql: MySQL) -> None:
    person.execute(PEOPLE)
    person.execute("ALTER TABLE people ADD touched TIMESTAMP(6) DEFAULT '2020-01-01' ON UPDATE now(6)")
    person.execute("INSERT INTO people (email, age, balance) VALUES ('a', 1, 5), ('b', 2, 6), ('c', NULL, 7)")
    rows = part(["k1", "k2", "k3", "k4", "k5"], ["1", "2", "3", "77", None], age=[1, None, None, 5, 6])
    outcomes = told(mysql.write_bulk("people", "update", rows, "d1"))
    assert [row["_status"] for row in outcomes.values()] == ["noop", "applied", "noop", "refused", "failed"]
    assert "no longer has a row 77" in outcomes["k4"]["_reason"]
    assert asked(person, "SELECT age, balance, touched > '2021-01-01' FROM people ORDER BY id") == [
        (1, Decimal(5), 0), (None, Decimal(6), 1), (None, Decimal(7), 0)]  # fmt: skip
    assert statuses(mysql.write_bulk("people", "update", part(["k1"], ["1"], email=["A"]), "d2")) == ["applied"]
    assert asked(person, "SELECT email FROM people WHERE id = 1") == [("A",)]  # equal to its collation, yet written


def test_updates_that_clash_stand_alone(person: Person, mysql: MySQL) -> None:
    person.execute(PEOPLE)
    person.execute("INSERT INTO people (email, age) SELECT concat('p', seq), seq FROM seq_1_to_300")
    emails = [f"q{i}" for i in range(1, 301)]
    emails[9], emails[99] = "p200", "x" * 21
    ages = [1] * 300
    ages[199] = -1
    keys = [str(i) for i in range(1, 301)]
    outcomes = told(mysql.write_bulk("people", "update", part(keys, keys, email=emails, age=ages), "d1"))
    bad = {key: row["_field"] for key, row in outcomes.items() if row["_status"] != "applied"}
    assert bad.keys() == {"10", "100", "200"}
    assert (bad["10"], bad["100"]) == ("email", "email")
    assert asked(person, "SELECT id, email FROM people WHERE email LIKE 'p%' ORDER BY id") == [
        (10, "p10"), (100, "p100"), (200, "p200")]  # fmt: skip


def test_rows_with_composite_keys_are_created_updated_and_deleted(person: Person, mysql: MySQL) -> None:
    person.execute("CREATE TABLE items (region VARCHAR(9), n INT, note TEXT, PRIMARY KEY (region, n))")
    outcomes = mysql.write_bulk("items", "create", part(["1", "2"], region=["é", "b"], n=[1, 2], note=["x", "y"]), "d1")
    targets = outcomes["_target_id"].to_pylist()
    assert targets == ['["é","1"]', '["b","2"]']
    assert statuses(mysql.write_bulk("items", "update", part(["1"], targets[:1], note=["z"]), "d2")) == ["applied"]
    assert statuses(mysql.write_bulk("items", "update", part(["1"], ['["E","1"]'], note=["!"]), "d5")) == ["refused"]
    assert statuses(mysql.write_bulk("items", "delete", part(["2"], targets[1:]), "d3")) == ["applied"]
    assert statuses(mysql.write_bulk("items", "delete", part(["2"], targets[1:]), "d4")) == ["noop"]
    assert asked(person, "SELECT * FROM items") == [("é", 1, "z")]


def test_keys_by_a_default_are_drawn_and_odd_keys_are_named_as_they_are_read(person: Person, mysql: MySQL) -> None:
    person.execute("CREATE TABLE t (id UUID PRIMARY KEY DEFAULT uuid(), n INT)")
    outcomes = mysql.write_bulk("t", "create", part([str(i) for i in range(150)], n=range(150)), "d1")
    assert statuses(outcomes) == ["applied"] * 150
    stored = {str(i): n for i, n in asked(person, "SELECT id, n FROM t")}
    assert [stored[target] for target in outcomes["_target_id"].to_pylist()] == list(range(150))
    person.execute("CREATE TABLE k (at DATETIME(3), n DECIMAL(6,2), raw VARBINARY(4), PRIMARY KEY (at, n))")
    rows = part(["1"], at=[dt.datetime(2024, 1, 1, 0, 0, 0, 120_000)], n=[Decimal("1.5")], raw=[b"\xff\0"])
    (target,) = mysql.write_bulk("k", "create", rows, "d2")["_target_id"].to_pylist()
    assert mysql.get("k", [target], ["raw"])["raw"].to_pylist() == [b"\xff\0"]
    assert statuses(mysql.write_bulk("k", "update", part(["1"], [target], raw=[b"a"]), "d3")) == ["applied"]


def test_a_tombstone_is_set_instead_of_deleting_and_archiving_needs_one(person: Person, connect_mysql: Connect) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, gone_at DATETIME)")
    person.execute("INSERT INTO t (id) VALUES (1), (2)")
    with pytest.raises(ConfigError, match="no way to archive"):
        connect_mysql().write_bulk("t", "archive", part(["a"], ["1"]), "d1")
    mysql = connect_mysql(tables={"t": {"tombstone": "gone_at", "timezone": "Pacific/Auckland"}})
    assert statuses(mysql.write_bulk("t", "archive", part(["a"], ["1"]), "d1")) == ["applied"]
    assert statuses(mysql.write_bulk("t", "delete", part(["a", "b"], ["1", "2"]), "d2")) == ["noop", "applied"]
    found = asked(person, "SELECT gone_at > utc_timestamp() + INTERVAL 10 HOUR FROM t")
    assert found == [(1,), (1,)]


def test_local_times_are_written_in_their_declared_zone(person: Person, connect_mysql: Connect) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME, ts TIMESTAMP NULL)")
    at = pa.array([dt.datetime(2024, 7, 1, 10, tzinfo=dt.UTC)], pa.timestamp("us", "UTC"))
    zoned = connect_mysql(tables={"t": {"timezone": "Europe/Berlin"}})
    zoned.write_bulk("t", "create", part(["1"], id=[1], at=at, ts=at), "d1")
    connect_mysql().write_bulk("t", "create", part(["2"], id=[2], at=at, ts=at), "d2")
    change = Change(op=Op.CREATE, key="3", token="t", fields={"id": 3, "at": at[0].as_py(), "ts": at[0].as_py()})
    list(zoned.write("t", [change]))
    ten, noon = dt.datetime(2024, 7, 1, 10), dt.datetime(2024, 7, 1, 12)
    assert asked(person, "SELECT at, ts FROM t ORDER BY id") == [(noon, ten), (ten, ten), (noon, ten)]


def test_a_trigger_that_raises_and_a_foreign_key_are_reported_truly(person: Person, mysql: MySQL) -> None:
    person.execute("CREATE TABLE parent (id INT PRIMARY KEY)")
    person.execute("INSERT INTO parent VALUES (1)")
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id))")
    person.execute(
        "CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW IF NEW.id = 2 THEN"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not two'; END IF"
    )
    outcomes = told(mysql.write_bulk("t", "create", part(["a", "b", "c"], id=[1, 2, 3], p=[1, 1, 9]), "d1"))
    assert [row["_status"] for row in outcomes.values()] == ["applied", "failed", "failed"]
    assert outcomes["b"]["_reason"] == "not two"
    assert outcomes["c"]["_field"] == "p"


def test_what_is_wrong_with_every_row_is_refused_before_anything_is_sent(person: Person, mysql: MySQL) -> None:
    person.execute(PEOPLE)
    person.execute("CREATE TABLE g (id INT PRIMARY KEY, twice INT AS (id * 2) STORED)")
    person.execute("CREATE TABLE old (id INT PRIMARY KEY) ENGINE=MyISAM")
    with pytest.raises(ConfigError, match="requires email"):
        mysql.write_bulk("people", "create", part(["a"], age=[1]), "d1")
    with pytest.raises(ConfigError, match="no column 'emial'"):
        mysql.write_bulk("people", "update", part(["a"], ["1"], emial=["x"]), "d1")
    with pytest.raises(ConfigError, match="computed by the database"):
        mysql.write_bulk("g", "create", part(["a"], id=[1], twice=[2]), "d1")
    with pytest.raises(ConfigError, match="no transactions: ALTER TABLE old"):
        mysql.write_bulk("old", "create", part(["a"], id=[1]), "d1")
    assert not mysql.delivered("people", "d1")


def test_a_row_larger_than_the_server_takes_is_refused_alone(
    person: Person, mariadb: PrivateMariaDB, connect_mysql: Connect
) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT)")
    with mariadb.setting("max_allowed_packet", 1 << 20):
        values = ["x" * 400_000, "y" * 2_000_000, "z" * 400_000, "w" * 400_000]
        outcomes = connect_mysql().write_bulk("t", "create", part(list("abcd"), id=range(4), a=values), "d1")
    assert statuses(outcomes) == ["applied", "failed", "applied", "applied"]
    assert "max_allowed_packet" in outcomes["_reason"][1].as_py()
    assert asked(person, "SELECT id, length(a) FROM t") == [(0, 400_000), (2, 400_000), (3, 400_000)]


def test_single_changes_are_answered_in_order_whatever_fields_they_have(person: Person, mysql: MySQL) -> None:
    person.execute(PEOPLE)
    joined = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    changes = [
        Change(op=Op.CREATE, key="a", token="t1", fields={"email": "a@x", "age": 1}),
        Change(op=Op.CREATE, key="b", token="t2", fields={"email": "b@x", "joined": joined}),
        Change(op=Op.CREATE, key="c", token="t3", fields={"email": "A@x", "age": 2}),
        Change(op=Op.CREATE, key="d", token="t4", fields={"email": "d@x", "age": "no number"}),
        Change(op=Op.CREATE, key="e", token="t5", fields={"email": "e@x", "balance": Decimal("2.50")}),
    ]
    outcomes = list(mysql.write("people", changes))
    assert [o.key for o in outcomes] == ["a", "b", "c", "d", "e"]
    assert [o.status for o in outcomes] == [
        Status.APPLIED, Status.APPLIED, Status.FAILED, Status.FAILED, Status.APPLIED]  # fmt: skip
    assert outcomes[3].field == "age"
    again = list(mysql.write("people", changes))
    assert [(o.status, o.target_id) for o in again] == [(o.status, o.target_id) for o in outcomes]
    assert asked(person, "SELECT count(*) FROM people") == [(3,)]
    update = Change(op=Op.UPDATE, key="a", token="u1", target_id=outcomes[0].target_id, fields={"age": None})
    (done,) = mysql.write("people", [update])
    assert done.status is Status.APPLIED
    delete = Change(op=Op.DELETE, key="b", token="u2", target_id=outcomes[1].target_id)
    assert [o.status for o in mysql.write("people", [delete])] == [Status.APPLIED]
    assert asked(person, "SELECT email, age FROM people ORDER BY id") == [("a@x", None), ("e@x", None)]


def test_an_update_bound_to_what_rows_were_leaves_alone_what_moved_or_is_gone(person: Person, mysql: MySQL) -> None:
    assert isinstance(mysql, ConditionalTarget)
    person.execute(PEOPLE)
    person.execute("INSERT INTO people (id, email, age) VALUES (1, 'a', 1), (2, 'b', NULL), (3, 'c', 3), (4, 'd', 4)")
    rows = part(["k1", "k2", "k3", "k4", "k5"], ["1", "2", "3", "4", "5"], email=["A", "B", "C", "D", "E"])
    was = pa.table({"email": ["a", "b", "c", "D", "e"], "age": [1, None, 30, 4, 5]})
    outcomes = mysql.update_unmoved("people", rows, was, "d1")
    assert statuses(outcomes) == ["applied", "applied", "refused", "refused", "refused"]
    assert [row["_reason"] for row in outcomes.to_pylist()[2:]] == [
        f"shop.people no longer has a row {number} that is as it was planned" for number in (3, 4, 5)
    ]
    found = asked(person, "SELECT email, age FROM people ORDER BY id")
    assert found == [("A", 1), ("B", None), ("c", 3), ("d", 4)]
    person.execute("UPDATE people SET email = 'a' WHERE id = 1")
    assert mysql.update_unmoved("people", rows, was, "d1").equals(outcomes)  # it happened: nothing is written again
    assert asked(person, "SELECT email FROM people WHERE id = 1") == [("a",)]


def test_what_no_row_of_the_table_can_have_been_is_no_row_as_planned(person: Person, mysql: MySQL) -> None:
    person.execute(PEOPLE)
    person.execute("INSERT INTO people (id, email, age) VALUES (1, 'a', 1), (2, 'b', 2)")
    rows = part(["k1", "k2"], ["1", "2"], age=[10, 20])
    outcomes = mysql.update_unmoved("people", rows, pa.table({"age": [1, 2**40]}), "d1")
    assert statuses(outcomes) == ["applied", "refused"]


def test_what_rows_were_takes_no_room_that_a_row_does_not_have(person: Person, mysql: MySQL) -> None:
    """A row of InnoDB has 65,535 bytes for the longest values of all VARCHAR columns together."""
    names = [f"c{n}" for n in range(10)]
    person.execute(f"CREATE TABLE wide (id INT PRIMARY KEY, {', '.join(f'{n} VARCHAR(1500)' for n in names)})")
    person.execute(f"INSERT INTO wide VALUES (1, {', '.join(['repeat(0xE282AC, 1500)'] * 10)})")
    was = pa.table({name: ["€" * 1500] for name in names})
    rows = part(["k1"], ["1"], **{name: ["$" * 1500] for name in names})
    assert statuses(mysql.update_unmoved("wide", rows, was, "d1")) == ["applied"]
    assert asked(person, "SELECT length(c0), length(c9) FROM wide") == [(1500, 1500)]


def test_a_row_that_is_too_long_together_with_what_it_was_is_left_alone_and_not_failed(
    person: Person, mariadb: PrivateMariaDB, connect_mysql: Connect
) -> None:
    person.execute("CREATE TABLE long_ones (id INT PRIMARY KEY, note LONGTEXT)")
    person.execute("INSERT INTO long_ones VALUES (1, repeat('a', 9 << 20)), (2, 'b')")
    rows = part(["k1", "k2"], ["1", "2"], note=["A" * (9 << 20), "B"])
    was = pa.table({"note": ["a" * (9 << 20), "b"]})
    with mariadb.setting("max_allowed_packet", 16 << 20):
        mysql = connect_mysql()
        outcomes = mysql.update_unmoved("long_ones", rows, was, "d1")
        assert statuses(outcomes) == ["refused", "applied"]
        assert "max_allowed_packet" in told(outcomes)["k1"]["_reason"]
        assert statuses(mysql.write_bulk("long_ones", "update", rows, "d2")) == ["applied", "noop"]
