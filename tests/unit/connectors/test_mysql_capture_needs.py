"""What following a binlog needs of a server, a user and a table; what is lacking is told with its mend."""

from __future__ import annotations

import pytest
from binlog_feed import TABLE, Connect, Person, following, said, told, until

from sync_platform.connectors.mysql import MySQL
from sync_platform.connectors.mysql.binlog.feed import BinlogFeed
from sync_platform.connectors.mysql.binlog.position import MariaSeen
from sync_platform.errors import AuthError, ConfigError
from tests.private_mariadb import PrivateMariaDB


def test_a_minimal_row_image_is_enough_for_a_primary_key(
    person: Person, mariadb: PrivateMariaDB, mysql: MySQL, connect_mysql: Connect
) -> None:
    person.execute("CREATE TABLE t (a INT, b VARCHAR(9), c INT NOT NULL UNIQUE, note TEXT, PRIMARY KEY (b, a))")
    person.execute("SET SESSION binlog_row_image = 'MINIMAL'")
    with mariadb.setting("binlog_row_image", "MINIMAL"):
        with following(mysql) as feed:
            person.execute("INSERT INTO t VALUES (1, 'é', 5, NULL)")
            person.execute("UPDATE t SET note = 'n'")
            person.execute("UPDATE t SET a = 2")
            person.execute("DELETE FROM t")
            events = told(feed, 5)
        assert said(events) == [
            ("created", '["é","1"]'), ("updated", '["é","1"]'), ("deleted", '["é","1"]'), ("updated", '["é","2"]'),
            ("deleted", '["é","2"]'),
        ]  # fmt: skip
        other = connect_mysql(tables={"t": {"key": ["c"]}})
        (problem,) = other.capture_problems(["t"])
        assert "binlog_row_image" in problem
        assert "SET GLOBAL binlog_row_image = 'FULL'" in problem


def test_rows_logged_without_the_key_owe_a_compare(person: Person, connect_mysql: Connect) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, c INT NOT NULL UNIQUE, note TEXT)")
    with following(connect_mysql(tables={"t": {"key": ["c"]}})) as feed:
        person.execute("SET SESSION binlog_row_image = 'MINIMAL'")
        person.execute("INSERT INTO t VALUES (1, 5, NULL)")
        person.execute("UPDATE t SET note = 'n'")
        assert until(feed, lambda one: bool(one.altered)).altered == {"t"}


@pytest.mark.parametrize("form", ["STATEMENT", "MIXED"])
def test_a_binlog_of_statements_is_refused(person: Person, mariadb: PrivateMariaDB, mysql: MySQL, form: str) -> None:
    person.execute(TABLE)
    with mariadb.setting("binlog_format", form):
        (problem,) = mysql.capture_problems(["t"])
        assert f"binlog_format is {form}" in problem
        assert "SET GLOBAL binlog_format = 'ROW'" in problem
        with pytest.raises(ConfigError) as refused:
            mysql.follow(["t"], None)
        assert "binlog_format" in str(refused.value)


def test_a_server_without_a_binlog_is_refused() -> None:
    with PrivateMariaDB(settings={"skip-log-bin": "1"}) as server:
        connector = MySQL(url=server.create("own"))
        (problem,) = connector.capture_problems([])
        assert "writes no binlog" in problem
        assert "log_bin" in problem.partition("->")[2]
        connector.close()


def test_a_database_that_the_binlog_leaves_out_is_refused() -> None:
    with PrivateMariaDB(settings={"binlog-ignore-db": "own"}) as server:
        connector = MySQL(url=server.create("own"))
        with server.person("own") as db, db.cursor() as person:
            person.execute(TABLE)
        (problem,) = connector.capture_problems(["t"])
        assert "leaves the database own out" in problem
        connector.close()


def test_missing_rights_are_told_with_the_grants_that_mend_them(
    person: Person, mariadb: PrivateMariaDB, connect_mysql: Connect
) -> None:
    person.execute(TABLE)
    person.execute("CREATE OR REPLACE USER reader@'127.0.0.1' IDENTIFIED BY 'word'")
    person.execute("GRANT SELECT ON shop.* TO reader@'127.0.0.1'")
    url = mariadb.url("shop", user="reader", password="word")
    problems = connect_mysql(url=url).capture_problems(["t"])
    assert len(problems) == 2
    for problem in problems:
        person.execute(problem.partition("-> ")[2].replace("reader@127.0.0.1", "reader@'127.0.0.1'"))
    reader = connect_mysql(url=url)
    assert reader.capture_problems(["t"]) == []
    with following(reader) as feed:
        person.execute("INSERT INTO t VALUES (1, 'a', NULL)")
        assert said(told(feed, 1)) == [("created", "1")]


def test_a_right_that_was_taken_away_is_an_auth_error_with_the_grant(
    person: Person, mariadb: PrivateMariaDB, connect_mysql: Connect
) -> None:
    person.execute(TABLE)
    person.execute("CREATE OR REPLACE USER reader@'127.0.0.1' IDENTIFIED BY 'word'")
    person.execute("GRANT SELECT ON shop.* TO reader@'127.0.0.1'")
    reader = connect_mysql(url=mariadb.url("shop", user="reader", password="word"))
    with pytest.raises(AuthError) as denied:
        BinlogFeed(reader.server(), reader.table, ["t"], MariaSeen(), None).open(4711)
    assert "GRANT REPLICATION SLAVE" in (denied.value.mend or "")


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["CREATE VIEW t AS SELECT 1 AS id"], "neither a primary key"),
        (["CREATE TABLE t (id INT)"], "neither a primary key"),
        (["CREATE TABLE t (id DOUBLE PRIMARY KEY)"], "id is a double"),
        (["CREATE TABLE t (id INET6 PRIMARY KEY)"], "id is a inet6"),
        (["CREATE TABLE t (id INT PRIMARY KEY) WITH SYSTEM VERSIONING"], "system versioned"),
        (["CREATE TABLE t (id VARCHAR(9) CHARACTER SET sjis PRIMARY KEY)"], "CONVERT TO CHARACTER SET utf8mb4"),
        (
            [
                "CREATE TABLE p (id INT PRIMARY KEY)",
                "CREATE TABLE t (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
            ],
            "RESTRICT",
        ),
        ([], "there is no table or view 't'"),
    ],
)
def test_a_table_that_cannot_be_followed_is_told_with_what_to_do(
    person: Person, mysql: MySQL, statements: list[str], words: str
) -> None:
    for statement in statements:
        person.execute(statement)
    problems = mysql.capture_problems(["t"])
    assert len(problems) == 1, problems
    assert words in problems[0]
    assert "->" in problems[0]
