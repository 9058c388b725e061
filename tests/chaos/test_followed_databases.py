"""Followed logs of MariaDB and PostgreSQL, each into the other, through restarts, kills, purges and altered tables."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest

from tests.captured import Running
from tests.chaos.two_databases import SYNCS, Server, Side, TwoDatabases, between, label
from tests.law_table import law
from tests.private_mariadb import PrivateMariaDB
from tests.world import World

_SLOW = pytest.mark.slow
pytestmark = pytest.mark.timeout(1_800)


class Followed(Running):
    """Both databases followed, and a realtime sync each way."""

    both: TwoDatabases

    def agreed(self) -> bool:
        """Whether nothing waits and both targets hold what their sources have."""
        with contextlib.suppress(psycopg.Error, pymysql.err.MySQLError):
            return not self.waiting() and all(self.both.agree(sync) for sync in SYNCS)
        return False

    def run_all(self) -> None:
        """A run of each sync that ends well."""
        for sync in SYNCS:
            done = self.world.run(sync)
            assert done.code == 0, done.out[-3000:] + done.err[-3000:]

    def troubles(self) -> int:
        """How often capture said that something was wrong."""
        log = self.logs / "capture.log"
        return log.read_text(errors="replace").count("next try in")


@pytest.fixture
def followed(world: World, servers: Callable[[str], Server], tmp_path: Path) -> Iterator[Followed]:
    """An installation of both syncs over twenty rows on each side."""
    with between(world, servers("mariadb"), servers("18")) as both:
        both.prepare(
            tmp_path / "project", frequency="realtime", settings={"left": "capture=True", "right": "capture=True"}
        )
        made = Followed(world, tmp_path / "logs")
        made.both = both
        for side in both.sides:
            side.fill(1, 20)
        yield made
        made.stop()
        for side in both.sides:
            world.cli("capture", "forget", side.name)


def busy(side: Side, over: threading.Event, done: list[int]) -> None:
    """Edits, new rows and deletions until it is over; a server that is away takes none."""
    number = 0
    while not over.wait(0.02):
        number += 1
        with contextlib.suppress(psycopg.Error, pymysql.err.MySQLError):
            side.do(
                f"DELETE FROM source_rows WHERE id = {number % 60}",
                f"INSERT INTO source_rows (id, name, amount) VALUES ({number % 60}, 'edit {number}', {number}.25)",
                f"UPDATE source_rows SET amount = {number}.5 WHERE id = {(number + 7) % 60}",
            )
            done.append(number)


@pytest.mark.parametrize("moments", [6, pytest.param(20, marks=_SLOW)])
def test_databases_that_restart_and_processes_that_are_killed_at_any_moment_lose_nothing(
    followed: Followed, moments: int
) -> None:
    capture = followed.capture(follows=2)
    followed.run_all()
    worker = followed.start("worker")
    chance, over, done = random.Random(5), threading.Event(), ([], [])  # type: ignore[var-annotated]
    people = [
        threading.Thread(target=busy, args=(side, over, told))
        for side, told in zip(followed.both.sides, done, strict=True)
    ]
    for person in people:
        person.start()
    try:
        for moment in range(moments):
            time.sleep(chance.uniform(0.5, 2.0))
            kind = moment % 4
            side = followed.both.sides[0 if kind == 0 else 1]
            if kind in (0, 2):
                with law("a followed database, also a target, restarted", label(side.server)) as met:
                    before = followed.troubles()
                    side.restart(kill=moment % 8 < 4)
                    followed.until(lambda before=before: followed.troubles() > before, "capture felt the restart")  # type: ignore[misc]
                    met.case()
            else:
                with law("a process killed while rows change", "capture" if kind == 1 else "worker") as met:
                    victim = capture if kind == 1 else worker
                    assert victim.poll() is None, f"it ended by itself\n{followed.told()}"
                    followed.kill(victim)
                    met.case()
                    if kind == 1:
                        capture = followed.capture(follows=2)
                    else:
                        worker = followed.start("worker")
    finally:
        over.set()
        for person in people:
            person.join()
    assert all(len(told) > moments for told in done), "nobody could change anything"
    followed.until(followed.agreed, "both targets hold what their sources have", 180)
    assert followed.owes() == [], f"a position was lost\n{followed.told()}"


@pytest.mark.parametrize(
    "point",
    ["event_stored", pytest.param("event_verified", marks=_SLOW), pytest.param("position_written", marks=_SLOW)],
)
def test_a_capture_of_both_databases_killed_at_a_crash_point_loses_nothing_and_stores_nothing_twice(
    followed: Followed, point: str
) -> None:
    followed.stop(followed.capture(follows=2))
    followed.run_all()
    for side in followed.both.sides:
        side.do("UPDATE source_rows SET name = 'before the death' WHERE id < 9")
    doomed = followed.start("capture", SYNC_CRASH_AT=point)
    followed.until(lambda: doomed.poll() is not None, f"{point} is passed", 60)
    assert doomed.returncode == -9
    for side in followed.both.sides:
        side.do("DELETE FROM source_rows WHERE id = 1", "UPDATE source_rows SET name = 'after it' WHERE id > 15")
    followed.capture(follows=2)
    followed.start("worker")
    followed.until(followed.agreed, "everything is delivered")
    assert followed.rows("SELECT count(*) - count(DISTINCT (connection, event_id)) FROM sync.inbox") == [(0,)]
    assert followed.owes() == []


def purged(side: Side) -> bool:
    """Whether the server's log is its newest file alone; the others are purged."""
    assert isinstance(side.server, PrivateMariaDB)
    with side.server.person() as admin, admin.cursor() as cursor:
        cursor.execute("SHOW BINARY LOGS")
        files = [row[0] for row in cursor.fetchall()]
        cursor.execute(f"PURGE BINARY LOGS TO '{files[-1]}'")
        cursor.execute("SHOW BINARY LOGS")
        return len(cursor.fetchall()) == 1


def test_a_purged_binlog_is_repaired_by_a_compare_that_writes_only_what_differs(followed: Followed) -> None:
    mysql, _ = followed.both.sides
    capture = followed.capture(follows=2)
    followed.run_all()
    followed.stop(capture)
    mysql.do("UPDATE source_rows SET name = 'missed' WHERE id = 3", "DELETE FROM source_rows WHERE id = 4")
    mysql.fill(100, 101)
    mysql.do("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    followed.until(lambda: purged(mysql), "the server gives its older files up")  # once nobody reads them
    following = followed.told().count("left: following")
    followed.start("capture")
    followed.until(lambda: ("source_rows",) in [one[:1] for one in followed.owes()], "the lost position is told")
    followed.until(lambda: followed.told().count("left: following") > following, "it follows again")
    done = followed.world.run("there")
    assert done.code == 0, done.out[-3000:] + done.err[-3000:]
    summary = done.json["sync_summary"]
    assert [summary[name] for name in ("created", "updated", "deleted")] == [2, 1, 1]
    assert followed.both.agree("there")
    assert followed.owes() == []


@pytest.mark.parametrize("sync", ["there", pytest.param("back", marks=_SLOW)])
def test_a_mapped_column_renamed_while_it_is_followed_is_told_and_missed_by_nothing_once_it_is_mended(
    followed: Followed, sync: str
) -> None:
    source, _ = followed.both.of(sync)
    followed.capture(follows=2)
    followed.run_all()
    followed.start("worker")
    source.do("UPDATE source_rows SET name = 'before' WHERE id = 1")
    followed.until(followed.agreed, "the first edit is delivered")
    source.do(
        "ALTER TABLE source_rows RENAME COLUMN name TO title",
        "UPDATE source_rows SET title = 'after' WHERE id = 2",
        "INSERT INTO source_rows (id, title, amount) VALUES (500, 'new', 1)",
    )
    followed.until(lambda: ("source_rows", "its columns changed") in followed.owes(), "the change is told")
    refused = followed.world.run(sync)
    assert refused.code == 2, refused.out[-3000:] + refused.err[-3000:]
    assert refused.json["error"]["field"] == "name"
    source.do("ALTER TABLE source_rows RENAME COLUMN title TO name", "DELETE FROM source_rows WHERE id = 3")
    followed.until(lambda: followed.world.run(sync).code in (0, 1), "the run goes on")
    followed.until(followed.agreed, "everything is delivered")


#: Rows of one transaction, and by how many bytes the follower's memory may grow over it: for a slice of some thousand
#: events and what Python keeps of freed ones. It was 5 to 8 MB; the same transaction held as a whole takes hundreds.
MANY, GROWTH = 200_000, 64 << 20


@_SLOW
@pytest.mark.parametrize("sync", SYNCS)
def test_a_transaction_of_many_rows_does_not_fill_the_memory_of_capture(followed: Followed, sync: str) -> None:
    source, _ = followed.both.of(sync)
    capture = followed.capture(follows=2)
    source.do("UPDATE source_rows SET name = 'warm' WHERE id < 10")
    counted = "SELECT count(*) FROM sync.inbox WHERE connection = %s"
    followed.until(lambda: followed.rows(counted, source.name) == [(9,)], "the first events are stored")
    before = peak(capture.pid)
    source.fill(1_001, 1_000 + MANY)
    followed.until(lambda: followed.rows(counted, source.name) == [(9 + MANY,)], "every event is stored", 600)
    grown = peak(capture.pid) - before
    print(f"\n{label(source.server)}: {before >> 20} MB at rest, {grown >> 20} MB more for {MANY:,} rows")
    assert grown < GROWTH, f"{label(source.server)}: {grown >> 20} MB more"


def peak(pid: int) -> int:
    """The most bytes of memory a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
