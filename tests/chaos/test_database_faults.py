"""What befalls a database in the middle of a sync ends in a sentence, or in recovery, and never in a silent gap."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.chaos.two_databases import SYNCS, Server, Side, TwoDatabases
from tests.forked_commands import Answer
from tests.private_mariadb import PrivateMariaDB
from tests.private_postgres import PrivateServer

_SLOW = pytest.mark.slow
#: Into PostgreSQL; what befalls a MariaDB is in `make test` already, in the tests of its connector.
_INTO_POSTGRES_FIRST = pytest.mark.parametrize("sync", ["there", pytest.param("back", marks=_SLOW)])
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def couple() -> str:
    """Both kinds of databases, so that each is source and target in turn."""
    return "mariadb-18"


def error_of(done: Answer, *codes: int) -> dict[str, Any]:
    """The error a command ended with; it has a mend."""
    assert done.code in codes, done.out[-3000:] + done.err[-3000:]
    error: dict[str, Any] = json.loads(done.out)["error"]
    assert error["mend"], error
    return error


# -- tables that are altered ---------------------------------------------------------------------

#: What is done to the table, how it is undone, and whether the sync can go on without that.
ALTERATIONS = {
    "a column is added": ("ADD COLUMN extra INT DEFAULT 7", "DROP COLUMN extra", True),
    "an unmapped column is dropped": ("DROP COLUMN spare", "ADD COLUMN spare INT", True),
    "a mapped column is renamed": ("RENAME COLUMN name TO title", "RENAME COLUMN title TO name", False),
    "a mapped column is dropped": ("DROP COLUMN amount", "ADD COLUMN amount DECIMAL(12,2)", False),
    "a type is widened": ("{alter} amount {type} DECIMAL(20,4)", "{alter} amount {type} DECIMAL(12,2)", True),
    "a type becomes another": ("{alter} amount {type} VARCHAR(40)", "{alter} amount {type} DECIMAL(12,2){using}", None),
}
_IN_MAKE_TEST = {("there", "source", "a mapped column is renamed")}


def altered(side: Side, table: str, how: str) -> str:
    """The statement, in the words of the side's database."""
    words = {"alter": "ALTER COLUMN", "type": "TYPE", "using": " USING amount::numeric"}
    if isinstance(side.server, PrivateMariaDB):
        words = {"alter": "MODIFY", "type": "", "using": ""}
    return f"ALTER TABLE {table} " + how.format(**words)


@pytest.mark.parametrize(
    ("sync", "which", "what"),
    [
        pytest.param(*one, marks=[] if one in _IN_MAKE_TEST else _SLOW)
        for one in ((sync, which, what) for sync in SYNCS for which in ("source", "target") for what in ALTERATIONS)
    ],
)
def test_a_table_altered_in_the_middle_of_a_run_is_said_or_followed(
    both: TwoDatabases, sync: str, which: str, what: str
) -> None:
    source, target = both.of(sync)
    struck, table = (source, "source_rows") if which == "source" else (target, "target_rows")
    struck.do(f"ALTER TABLE {table} ADD COLUMN spare INT")
    source.fill(1, 6_000)
    struck.proxy.disarm()
    both.assert_repaired(sync)
    source.change()
    source.fill(10_001, 14_000)
    change, undo, goes_on = ALTERATIONS[what]
    altering = threading.Thread(target=struck.do, args=(altered(struck, table, change),))  # waits for the run's locks
    struck.proxy.after(struck.proxy.carried // 3, altering.start)
    cuts = struck.proxy.cuts
    first = both.world.run(sync)
    assert struck.proxy.cuts == cuts + 1, "nothing happened in mid-run"
    altering.join(60)
    assert not altering.is_alive()
    if first.code != 0:
        error_of(first, 2, 3)
    if which == "target" or goes_on is not False:
        source.fill(20_001, 20_100)
    second = both.world.run(sync)
    if goes_on is True:
        assert second.code == 0, second.out[-3000:] + second.err[-3000:]
    if goes_on is False:
        error_of(second, 2)
    if second.code != 0:
        assert ("amount" in second.out) or ("name" in second.out), second.out
        struck.do(altered(struck, table, undo))
        if "dropped" in what:
            both.look_at_the_target(sync)  # what we wrote last is not what it holds
        both.assert_repaired(sync)
    assert both.agree(sync)
    assert both.world.run(sync).json["sync_summary"]["records_processed"] == 0


# -- rows that are too large ---------------------------------------------------------------------


def letters(both: TwoDatabases, sync: str) -> dict[str, tuple[str | None, str]]:
    """Field and reason of what is set aside, by key."""
    waiting = both.world.cli("dead", "list", sync, "--json").json["dead_letters"]
    return {one["key"]: (one["field"], one["reason"]) for one in waiting}


@pytest.mark.parametrize("sync", SYNCS)
def test_a_row_over_the_target_s_limits_is_set_aside_with_its_reason_and_the_rest_goes_on(
    both: TwoDatabases, sync: str
) -> None:
    source, target = both.of(sync)
    source.do(altered(source, "source_rows", f"{{alter}} name {{type}} {source.text}"))
    source.do(altered(source, "source_rows", "{alter} amount {type} DECIMAL(30,2)"))
    source.fill(1, 300)
    source.do("UPDATE source_rows SET name = repeat('long ', 40) WHERE id = 7")
    source.do("UPDATE source_rows SET amount = 12345678901.00 WHERE id = 8")
    if isinstance(target.server, PrivateMariaDB):  # a page of InnoDB holds no row over 8,126 bytes
        full = ", ".join(f"ADD COLUMN c{n} VARCHAR(40) NOT NULL DEFAULT '{'x' * 40}'" for n in range(195))
        target.do("SET SESSION innodb_strict_mode = OFF", f"ALTER TABLE target_rows {full}")
        source.do("UPDATE source_rows SET name = repeat('€', 60) WHERE id = 9")
        limit = "8126"
    else:  # a B-tree of PostgreSQL holds no entry over a third of a page
        long = " || ".join(f"encode(sha512((name || '{n}')::bytea), 'hex')" for n in range(30))
        target.do(f"CREATE INDEX in_full ON target_rows ((CASE WHEN length(name) > 50 THEN {long} END))")
        source.do("UPDATE source_rows SET name = repeat('x', 60) WHERE id = 9")
        limit = "2704"
    done = both.world.run(sync)
    assert done.code == 1, done.out[-3000:] + done.err[-3000:]
    found = letters(both, sync)
    assert found.keys() == {"7", "8", "9"}, found
    assert (found["7"][0], found["8"][0]) == ("name", "amount"), found
    assert limit in found["9"][1], found
    wanted = source.rows("source_rows")
    assert target.rows("target_rows") == {key: row for key, row in wanted.items() if key not in (7, 8, 9)}
    source.do("UPDATE source_rows SET name = 'short', amount = 1 WHERE id IN (7, 8, 9)")
    both.assert_settled(sync)
    assert letters(both, sync) == {}


# -- locks ---------------------------------------------------------------------------------------


@contextmanager
def locked(side: Side, table: str) -> Iterator[None]:
    """Somebody's transaction over the whole table, for the length of the block."""
    if isinstance(side.server, PrivateMariaDB):
        with side.server.person(side.database) as holder, holder.cursor() as hand:
            holder.begin()
            hand.execute(f"SELECT count(*) FROM {table} FOR UPDATE")
            yield
            holder.rollback()
    else:
        with psycopg.connect(side.own, application_name="the nightly export") as holder:
            holder.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
            yield
            holder.rollback()


@_INTO_POSTGRES_FIRST
def test_a_lock_that_is_held_too_long_ends_the_run_with_a_sentence_and_the_next_goes_on(
    both: TwoDatabases, sync: str
) -> None:
    source, target = both.of(sync)
    source.fill(1, 500)
    both.assert_repaired(sync)
    source.change()
    source.fill(1_001, 1_200)
    before = target.rows("target_rows")
    patient = both.world.project / f"assets/{sync}/defs.yaml"
    patient.write_text(patient.read_text() + "  errors: {retries: 1, backoff_seconds: 0.1}\n")
    with locked(target, "target_rows"):
        error = error_of(both.world.run(sync), 3)
        assert "a lock was not granted in time" in error["message"], error
        holder = "of root from 127.0.0.1" if isinstance(target.server, PrivateMariaDB) else "(the nightly export)"
        assert holder in error["message"], error
        assert target.rows("target_rows") == before
    both.assert_settled(sync)


# -- full disks ----------------------------------------------------------------------------------


@contextmanager
def tiny_disk(server: Server, size: str) -> Iterator[Path]:
    """A file system of its own that a server may write to."""
    home = server.home if isinstance(server, PrivateServer) else server.root
    folder, user = server.root / "disk", (home / "data").stat().st_uid
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700,uid={user}", "tmpfs", str(folder)]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
        folder.rmdir()


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Nothing fits on the disk for the length of the block."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))
    yield
    ballast.unlink()


@_INTO_POSTGRES_FIRST
def test_a_full_disk_of_the_target_ends_the_run_with_a_sentence_and_the_next_goes_on(
    both: TwoDatabases, sync: str
) -> None:
    source, target = both.of(sync)
    with tiny_disk(target.server, "40m") as disk:
        target.move("target_rows", disk)
        source.fill(1, 500)
        both.assert_repaired(sync)
        source.change()
        source.fill(1_001, 40_000)
        with filled(disk):
            error = error_of(both.world.run(sync), 3)
            assert "out of space" in error["message"], error
        both.assert_settled(sync)
        target.do("DROP TABLE target_rows")
        target.leave()


def test_a_full_disk_of_the_state_ends_the_run_with_a_sentence_and_the_next_goes_on(
    both: TwoDatabases, servers: Callable[[str], Server]
) -> None:
    state = servers("18")
    assert isinstance(state, PrivateServer)
    source, _ = both.of("there")
    with (
        tiny_disk(state, "90m") as disk,
        psycopg.connect(state.url(), autocommit=True) as admin,
    ):
        admin.execute(f"CREATE TABLESPACE tiny_state LOCATION '{disk}'".encode())
        admin.execute("CREATE DATABASE tiny_state TABLESPACE tiny_state")
        both.world.database_url = state.url("tiny_state")
        try:
            source.fill(1, 500)
            both.assert_repaired("there")
            source.change()
            source.fill(1_001, 40_000)
            with filled(disk):
                error_of(both.world.run("there"), 3)
            both.assert_settled("there")
        finally:
            admin.execute("DROP DATABASE tiny_state WITH (FORCE)")
            admin.execute("DROP TABLESPACE tiny_state")
