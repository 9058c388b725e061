"""What goes wrong with a real MariaDB says what to do next, and never tells a secret."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pymysql
import pytest

from sync_platform.connectors.mysql import MySQL
from sync_platform.connectors.mysql.faults import refusal_of, translated
from sync_platform.errors import (
    AccessError,
    AuthError,
    ConfigError,
    ContractError,
    SyncError,
    TransientError,
    UnknownOutcome,
)
from sync_platform.model import Change, Op, Status
from tests.cut_proxy import CutProxy
from tests.private_mariadb import PrivateMariaDB
from tests.private_postgres import free_port

Connect = Callable[..., MySQL]
Person = pymysql.cursors.Cursor
TABLE = "CREATE TABLE t (id INT PRIMARY KEY, email VARCHAR(50), updated_at TIMESTAMP DEFAULT now())"
ROOT = Path(__file__).parents[3]
COMMIT = b"\x07\0\0\0\x03COMMIT"


def rows(*ids: int) -> pa.Table:
    keys = pa.array([str(i) for i in ids])
    return pa.table({"_key": keys, "_target_id": pa.nulls(len(ids), pa.string()), "id": pa.array(ids), "email": keys})


def count(person: Person) -> int:
    person.execute("SELECT count(*) FROM t")
    return int(person.fetchone()[0])


@contextmanager
def refused(kind: type[SyncError], *words: str, secret: str = "") -> Iterator[None]:
    """Expects an error of exactly this class that says these words and has a mend and no secret."""
    with pytest.raises(SyncError) as caught:
        yield
    error = caught.value
    assert type(error) is kind, repr(error)
    assert error.mend
    for word in words:
        assert word in str(error)
    assert not secret or secret not in f"{error} {error!r} {error.to_json()} {error.__cause__}"


def with_login(url: str, login: str) -> str:
    return url.replace(url.split("//")[1].split("@")[0], login)


def test_a_wrong_password_is_an_auth_error_without_the_password(shop: str, connect_mysql: Connect) -> None:
    connector = connect_mysql(url=with_login(shop, "root:hunter2-wrong"))
    with refused(AuthError, "login was refused", secret="hunter2-wrong"):
        connector.check()
    assert "hunter2-wrong" not in repr(connector)


@pytest.mark.parametrize("login", ["root:p@ss-w0rd", "root:p%40ss-w0rd", "root:p/ss-w0rd", "root:ss-w0rd:9"])
def test_no_part_of_a_badly_written_password_is_shown(shop: str, connect_mysql: Connect, login: str) -> None:
    with pytest.raises((AccessError, ConfigError)) as caught:
        connect_mysql(url=with_login(shop, login)).check()
    assert "ss-w0rd" not in f"{caught.value} {caught.value!r}"
    assert caught.value.mend


def test_odd_characters_in_a_password_log_in(person: Person, mariadb: PrivateMariaDB, connect_mysql: Connect) -> None:
    person.execute("CREATE OR REPLACE USER odd@'127.0.0.1' IDENTIFIED BY 'pä@/:%w'")
    person.execute("GRANT SELECT ON shop.* TO odd@'127.0.0.1'")
    health = connect_mysql(url=mariadb.url("shop", user="odd", password="p%C3%A4%40%2F%3A%25w")).check()
    assert health.ok
    assert health.account.startswith("odd@127.0.0.1 at 127.0.0.1:")
    assert health.api_version.startswith("MariaDB 1")


def test_a_server_that_is_down_is_an_access_error(connect_mysql: Connect) -> None:
    port = free_port()
    with refused(AccessError, f"127.0.0.1:{port}", "cannot be reached", secret="s3cret-word"):
        connect_mysql(url=f"mysql://u:s3cret-word@127.0.0.1:{port}/x").check()


def test_an_unknown_database_and_a_wrong_url_are_config_errors(shop: str, connect_mysql: Connect) -> None:
    with refused(ConfigError, "Unknown database"):
        connect_mysql(url=shop + "_none").check()
    for url, words in (
        ("mysql://u:s3cret-word@host:port/x", "cannot be read"),
        ("postgresql://u:s3cret-word@host/x", "mysql://"),
        ("mysql://u:s3cret-word@127.0.0.1", "names no database"),
        ("mysql://u:s3cret-word@127.0.0.1/x?ssl-mod=REQUIRED", "did you mean"),
        ("mysql://u:s3cret-word@127.0.0.1/x?ssl-mode=SAFE", "use one of"),
        ("mysql://u:s3cret-word@127.0.0.1/x?ssl-ca=/none.pem", "PEM"),
    ):
        with refused(ConfigError, words, secret="s3cret-word"):
            connect_mysql(url=url).check()


def test_a_missing_permission_names_the_table(
    person: Person, mariadb: PrivateMariaDB, mysql: MySQL, connect_mysql: Connect
) -> None:
    person.execute(TABLE)
    person.execute("CREATE OR REPLACE USER clerk@'127.0.0.1' IDENTIFIED BY 'clerk-word'")
    person.execute("GRANT CREATE TEMPORARY TABLES ON shop.* TO clerk@'127.0.0.1'")
    clerk = connect_mysql(url=mariadb.url("shop", user="clerk", password="clerk-word"))
    with refused(ConfigError, "'t'", "may see"):
        clerk.stream("t")
    person.execute("GRANT SELECT ON shop.t TO clerk@'127.0.0.1'")
    assert clerk.stream("t").key == ("id",)
    with refused(AuthError, "_sync_delivered", "CREATE TABLE IF NOT EXISTS"):
        clerk.write_bulk("t", "create", rows(1), "d1")
    mysql.write_bulk("t", "create", rows(1), "d0")
    person.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON shop._sync_delivered TO clerk@'127.0.0.1'")
    with refused(AuthError, "denied", "`t`"):
        clerk.write_bulk("t", "create", rows(2), "d1")
    assert not mysql.delivered("t", "d1")


def test_a_read_only_server_is_an_access_error(
    person: Person, mariadb: PrivateMariaDB, mysql: MySQL, connect_mysql: Connect
) -> None:
    person.execute(TABLE)
    mysql.write_bulk("t", "create", rows(1), "d0")
    person.execute("CREATE OR REPLACE USER clerk@'127.0.0.1' IDENTIFIED BY 'clerk-word'")
    person.execute("GRANT ALL ON shop.* TO clerk@'127.0.0.1'")
    with mariadb.setting("read_only", 1), refused(AccessError, "read-only", "primary"):
        connect_mysql(url=mariadb.url("shop", user="clerk", password="clerk-word")).write_bulk(
            "t", "create", rows(2), "d1"
        )


def test_a_lock_and_a_statement_timeout_are_transient(
    person: Person, mariadb: PrivateMariaDB, mysql: MySQL, connect_mysql: Connect
) -> None:
    person.execute(TABLE)
    mysql.write_bulk("t", "create", rows(1), "d0")
    change = Change(op=Op.UPDATE, key="1", token="x", target_id="1", fields={"email": "new"})
    with mariadb.person("shop") as holder, holder.cursor() as hand:
        holder.begin()
        hand.execute("SELECT 1 FROM t FOR UPDATE")
        with refused(TransientError, "lock"):
            list(connect_mysql(lock_timeout_seconds=1).write("t", [change]))
        with refused(TransientError, "timeout"):
            list(connect_mysql(statement_timeout_seconds=0.05).write("t", [change]))
        holder.rollback()
    assert [o.status for o in mysql.write("t", [change])] == [Status.APPLIED]


def test_a_full_disk_is_an_access_error_that_stores_nothing_and_passes(
    person: Person, mysql: MySQL, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    for folder in disk.parents:  # the server's user must reach it
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=0777", "tmpfs", str(disk)]
    subprocess.run(mounting, check=True, capture_output=True)
    try:
        person.execute(f"CREATE TABLE t (id INT PRIMARY KEY, email VARCHAR(1000)) DATA DIRECTORY = '{disk}'")
        mysql.write_bulk("t", "create", rows(1), "d0")
        big = rows(*range(2, 30_002)).drop_columns("email")
        big = big.append_column("email", pa.array(["x" * 1000] * 30_000))
        with refused(AccessError, "out of space"):
            mysql.write_bulk("t", "create", big, "d1")
        assert count(person) == 1
        assert not mysql.delivered("t", "d1")
        answer = mysql.write_bulk("t", "create", rows(2, 3), "d2")
        assert set(answer["_status"].to_pylist()) == {"applied"}
        assert count(person) == 3
        person.execute("DROP TABLE t")
    finally:
        subprocess.run(["umount", str(disk)], check=True, capture_output=True)


def test_a_table_altered_between_two_calls_is_a_config_error_that_stores_nothing(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    mysql.write_bulk("t", "create", rows(1), "d0")
    person.execute("ALTER TABLE t DROP COLUMN email")
    with refused(ConfigError, "email"):
        mysql.write_bulk("t", "create", rows(2), "d1")
    assert count(person) == 1
    assert not mysql.delivered("t", "d1")
    person.execute("ALTER TABLE t ADD COLUMN email VARCHAR(50)")
    mysql.write_bulk("t", "create", rows(2), "d1")
    assert count(person) == 2


def test_a_table_altered_while_it_is_read_is_read_to_its_end_as_it_was(
    person: Person, mariadb: PrivateMariaDB, connect_mysql: Connect
) -> None:
    person.execute(TABLE)
    person.execute("INSERT INTO t (id, email) SELECT seq, repeat('x', 40) FROM seq_1_to_50000")
    pages = connect_mysql(page_bytes=50_000).read("t")
    seen = next(pages).table.num_rows

    def alter() -> None:
        with mariadb.person("shop") as other, other.cursor() as hand:
            hand.execute("ALTER TABLE t ADD COLUMN more INT FIRST")

    altering = threading.Thread(target=alter)
    altering.start()
    seen += sum(page.table.num_rows for page in pages)
    altering.join()
    assert seen == 50_000
    assert connect_mysql().discover("t").names[0] == "more"


def test_a_deadlock_is_transient_and_stores_nothing(person: Person, mariadb: PrivateMariaDB, mysql: MySQL) -> None:
    person.execute(TABLE)
    mysql.write_bulk("t", "create", rows(1, 2), "d0")
    updates = pa.table({"_key": ["1"], "_target_id": ["1"], "email": ["ours"]})
    with mariadb.person("shop") as rival, rival.cursor() as hand:
        person.execute("CREATE TABLE other (id INT PRIMARY KEY, n INT)")
        person.execute("INSERT INTO other SELECT seq, 0 FROM seq_1_to_50")
        person.execute("CREATE TRIGGER meet AFTER UPDATE ON t FOR EACH ROW UPDATE other SET n = 1 WHERE id = 1")
        rival.begin()
        hand.execute("UPDATE other SET n = 2")
        caught: list[BaseException] = []

        def write() -> None:
            try:
                mysql.write_bulk("t", "update", updates, "d1")
            except SyncError as error:
                caught.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        while True:
            person.execute("SELECT count(*) FROM information_schema.INNODB_LOCK_WAITS")
            if person.fetchone()[0]:
                break
            time.sleep(0.2)  # asked more often, InnoDB shows what it showed before
        hand.execute("SELECT email FROM t WHERE id = 1 FOR UPDATE")  # the lighter transaction is given up: the writer's
        rival.rollback()
        writer.join()
    assert [type(error) for error in caught] == [TransientError], caught
    assert "deadlock" in str(caught[0])
    assert not mysql.delivered("t", "d1")


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not-stored"])
def test_a_lost_commit_is_unknown_and_the_marker_tells(
    person: Person, mariadb: PrivateMariaDB, shop: str, connect_mysql: Connect, stored: bool
) -> None:
    person.execute(TABLE)
    with CutProxy(mariadb.port) as proxy:
        connector = connect_mysql(url=shop.replace(str(mariadb.port), str(proxy.port)) + "?ssl-mode=DISABLED")
        connector.write_bulk("t", "create", rows(1), "d0")
        if stored:
            proxy.halve(COMMIT, times=1, keep=0)
        else:
            proxy.cut_at(COMMIT, answered=False)
        with refused(UnknownOutcome, "while committing"):
            connector.write_bulk("t", "create", rows(2, 3), "d1")
        assert proxy.cuts == 1
        assert connector.delivered("t", "d1") is stored
        outcomes = connector.write_bulk("t", "create", rows(2, 3), "d1")
        assert outcomes["_status"].to_pylist() == ["applied", "applied"]
    assert count(person) == 3


def test_a_connection_lost_before_the_commit_is_transient_and_stores_nothing(
    person: Person, mariadb: PrivateMariaDB, shop: str, connect_mysql: Connect
) -> None:
    person.execute(TABLE)
    with CutProxy(mariadb.port) as proxy:
        connector = connect_mysql(url=shop.replace(str(mariadb.port), str(proxy.port)) + "?ssl-mode=DISABLED")
        connector.write_bulk("t", "create", rows(1), "d0")
        proxy.cut_at(b"row_count, outcomes", answered=False)
        with refused(TransientError, "connection was lost"):
            connector.write_bulk("t", "create", rows(2), "d1")
        assert not connector.delivered("t", "d1")
    assert count(person) == 1


def test_a_connection_lost_while_reading_is_transient_and_claims_nothing(
    person: Person, mariadb: PrivateMariaDB, shop: str, connect_mysql: Connect
) -> None:
    person.execute("CREATE TABLE t (id INT PRIMARY KEY, a CHAR(200))")
    person.execute("INSERT INTO t SELECT seq, repeat('x', 200) FROM seq_1_to_20000")
    with CutProxy(mariadb.port) as proxy:
        url = shop.replace(str(mariadb.port), str(proxy.port)) + "?ssl-mode=DISABLED"
        connector = connect_mysql(url=url, page_bytes=100_000)
        assert connector.check().ok
        proxy.halve(b"ORDER BY", times=1, keep=40_000)
        with refused(TransientError, "lost"):
            for page in connector.read("t"):
                assert not page.complete


def test_a_session_that_is_killed_is_transient_and_the_next_call_has_a_new_one(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    assert mysql.check().ok
    person.execute("SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> connection_id() AND DB = 'shop'")
    for (number,) in person.fetchall():
        person.execute(f"KILL {number}")
    with refused(TransientError):
        mysql.stream("t")
    assert mysql.stream("t").key == ("id",)


def test_an_idle_connection_holds_no_transaction_open(person: Person, mysql: MySQL) -> None:
    person.execute(TABLE)
    list(mysql.read("t"))
    mysql.write_bulk("t", "create", rows(1), "d1")
    time.sleep(0.15)  # the list of transactions is a tenth of a second old
    person.execute("SELECT count(*) FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id <> 0")
    assert person.fetchone() == (0,)


KILLED = """
import os, sys, pyarrow as pa
from sync_platform.connectors.mysql import MySQL
keys = pa.array(["1", "2"])
rows = pa.table({"_key": keys, "_target_id": pa.nulls(2, pa.string()), "id": pa.array([1, 2]), "email": keys})
MySQL(url=os.environ["TEST_URL"]).write_bulk("t", "create", rows, "d1")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("point", "stored"), [("request_sent", False), ("answer_received", True)])
def test_a_kill_around_the_commit_leaves_all_or_nothing(
    person: Person, shop: str, mysql: MySQL, point: str, stored: bool
) -> None:
    person.execute(TABLE)
    environment = os.environ | {"SYNC_CRASH_AT": point, "TEST_URL": shop}
    ended = subprocess.run([sys.executable, "-c", KILLED], env=environment, cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert mysql.delivered("t", "d1") is stored
    assert count(person) == (2 if stored else 0)
    assert mysql.write_bulk("t", "create", rows(1, 2), "d1")["_status"].to_pylist() == ["applied"] * 2
    assert count(person) == 2


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1021, AccessError), (1114, AccessError), (1030, AccessError), (1290, AccessError), (1836, AccessError),
        (1205, TransientError), (1213, TransientError), (1040, TransientError), (2006, TransientError),
        (1927, TransientError), (1045, AuthError), (1142, AuthError), (1227, AuthError), (1146, ConfigError),
        (1054, ConfigError), (1064, ConfigError), (1153, ConfigError), (1366, ContractError), (9999, AccessError),
    ],
)  # fmt: skip
def test_every_number_has_one_next_action(code: int, kind: type[SyncError]) -> None:
    error = translated(pymysql.err.OperationalError(code, "said with p4ssword"), "writing", ["p4ssword"])
    assert type(error) is kind
    assert error.mend
    assert "p4ssword" not in str(error)


@pytest.mark.parametrize(
    ("code", "said", "field"),
    [
        (1062, "Duplicate entry 'a' for key 'email'", "email"),
        (1062, "Duplicate entry 'a' for key 'people.email'", "email"),
        (1062, "Duplicate entry '1' for key 'PRIMARY'", "id"),
        (1406, "Data too long for column 'name' at row 3", "name"),
        (1048, "Column 'name' cannot be null", "name"),
        (1364, "Field 'name' doesn't have a default value", "name"),
        (1366, "Incorrect integer value: 'x' for column `shop`.`t`.`age` at row 1", "age"),
        (1452, "Cannot add or update a child row: a foreign key constraint fails (`s`.`t`, CONSTRAINT `f` FOREIGN KEY "
               "(`p`) REFERENCES `q` (`id`))", "p"),
        (4025, "CONSTRAINT `t.age` failed for `shop`.`t`", "age"),
        (3819, "Check constraint 'positive' is violated.", None),
    ],
)  # fmt: skip
def test_a_refused_row_names_its_column(code: int, said: str, field: str | None) -> None:
    why = refusal_of(pymysql.err.IntegrityError(code, said), {"email": ("email",), "PRIMARY": ("id",)})
    assert why is not None
    assert why.field == field
    assert "at row" not in why.reason
