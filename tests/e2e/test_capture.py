"""PostgreSQL's log followed into another PostgreSQL, with the processes a user starts, through their deaths."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.captured import SETTINGS, SHOP, SYNC, Captured, captured
from tests.private_postgres import PrivateServer
from tests.world import World

LOST = "max_slot_wal_keep_size=1MB"


_SLOW = pytest.mark.slow


@pytest.fixture(scope="module", params=[18, pytest.param(17, marks=_SLOW)])
def shop_server(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    """A server of each major whose log can be followed, and that loses nothing when it is killed."""
    with PrivateServer(durable=True, settings=SETTINGS, major=request.param) as server:
        yield server


@pytest.fixture
def shop(world: World, shop_server: PrivateServer, tmp_path: Path) -> Iterator[Captured]:
    """An installation of one realtime sync."""
    with captured(world, shop_server, tmp_path / "logs") as made:
        yield made


def order(number: int, note: str) -> str:
    return (
        f"INSERT INTO orders VALUES ('{SHOP}', {number}, {number}.5, '{note}') "
        "ON CONFLICT (shop, number) DO UPDATE SET note = excluded.note"
    )


def test_every_change_reaches_the_target_without_a_run_and_nothing_between_snapshot_and_stream_is_lost(
    shop: Captured,
) -> None:
    shop.prepare(30)
    capture = shop.capture()
    assert shop.owes() == [("orders", "it is followed from now on, and what happened before must be compared")]
    over = threading.Event()

    def busy() -> None:
        number = 100
        while not over.wait(0.02):
            number += 1
            shop.sell(order(number, "meanwhile"), order(number % 30 + 1, f"edit {number}"))

    edits = threading.Thread(target=busy)
    edits.start()
    worker = shop.start("worker")
    shop.run()  # the first full read, while rows change and their events wait or are delivered
    over.set()
    edits.join()
    shop.agreed()
    assert shop.owes() == []
    loads = shop.rows("SELECT count(*) FROM sync.loads")
    shop.sell(
        "DELETE FROM orders WHERE number IN (1, 2)",
        "UPDATE orders SET number = 1000 WHERE number = 3",
        order(4, "edited"),
        order(2000, "new"),
    )
    shop.agreed()
    assert shop.rows("SELECT count(*) FROM sync.loads") == loads, "deletes and edits came by their events"
    assert not any(row[1] in (1, 2, 3) for row in shop.bills())
    told = shop.world.cli("status", "--json").json["captures"]
    assert [(one["connection"], one["state"], one["streams"]) for one in told] == [("shop", "following", ["orders"])]
    assert told[0]["stored"] > 4
    assert told[0]["behind_bytes"] is not None
    refused = shop.world.cli("capture", "forget", "shop", "--json")
    assert refused.code == 3
    assert "is locked" in refused.json["error"]["message"]
    shop.stop(capture, worker)
    assert capture.returncode == worker.returncode == 0
    assert shop.slots() != []
    findings = {one["what"]: one for one in shop.world.cli("doctor", "--json").json["findings"]}
    assert findings["capture shop"]["ok"] is False
    assert "nobody follows it" in findings["capture shop"]["told"]
    assert shop.world.cli("capture", "forget", "shop").code == 0
    assert shop.slots() == []


@pytest.mark.parametrize(
    "point",
    ["event_stored", pytest.param("event_verified", marks=_SLOW), pytest.param("position_written", marks=_SLOW)],
)
def test_a_capture_killed_at_a_crash_point_loses_nothing_and_stores_nothing_twice(shop: Captured, point: str) -> None:
    shop.prepare(5)
    doomed = shop.capture(SYNC_CRASH_AT=point)
    shop.sell(*[order(number, f"note {number}") for number in range(3, 9)])
    assert doomed.wait(60) == -9, f"{point} was never passed\n{shop.told()}"
    shop.sell("DELETE FROM orders WHERE number = 1")
    shop.capture()
    shop.until(lambda: shop.rows("SELECT count(DISTINCT key) FROM sync.inbox") == [(7,)], "every change is an event")
    assert shop.rows("SELECT count(*) - count(DISTINCT event_id) FROM sync.inbox") == [(0,)]
    shop.run()
    shop.start("worker")
    shop.agreed()


@pytest.mark.parametrize("moments", [5, pytest.param(20, marks=_SLOW)])
@pytest.mark.timeout(900)
def test_a_source_that_restarts_and_a_capture_that_is_killed_at_any_moment_lose_nothing(
    shop: Captured, moments: int
) -> None:
    shop.prepare(20)
    process = shop.capture()
    shop.run()
    shop.start("worker")
    chance, over, sold = random.Random(3), threading.Event(), []

    def busy() -> None:
        number = 0
        while not over.wait(0.01):
            number += 1
            try:
                shop.sell(order(number % 60, f"edit {number}"))
                if number % 7 == 0:
                    shop.sell(f"DELETE FROM orders WHERE number = {number % 60}")
            except psycopg.Error:
                continue  # the server is away
            sold.append(number)

    edits = threading.Thread(target=busy)
    edits.start()
    try:
        for moment in range(moments):
            time.sleep(chance.uniform(0.2, 1.5))
            if moment % 2:
                shop.kill(process)
                process = shop.capture()
            else:
                shop.server.stop(kill=bool(moment % 4))
                time.sleep(chance.uniform(0, 1))
                shop.server.start()
    finally:
        over.set()
        edits.join()
    assert len(sold) > moments
    shop.agreed(120)
    assert shop.owes() == [], f"a position was lost\n{shop.told()}"


def test_a_dropped_slot_is_repaired_by_a_compare_that_writes_only_what_differs(shop: Captured) -> None:
    shop.prepare(200)
    capture = shop.capture()
    worker = shop.start("worker")
    shop.run()
    shop.agreed()
    shop.stop(capture, worker)
    shop.until(lambda: [active for _, active in shop.slots()] == [False], "the slot is idle")
    with psycopg.connect(shop.server.url(), autocommit=True) as admin:
        admin.execute("SELECT pg_drop_replication_slot(%s)", (shop.slots()[0][0],))
    shop.sell(order(1, "missed"), "DELETE FROM orders WHERE number = 2", order(500, "missed too"))
    written = shop.rows("SELECT count(*) FROM sync.outcomes")[0][0]
    shop.start("capture")
    shop.until(lambda: "is gone" in shop.told() and bool(shop.owes()), "the lost position is told")
    shop.until(lambda: shop.told().count(": following ") == 2, "it follows again")
    report = shop.run().json["sync_summary"]
    assert (report["created"], report["updated"], report["deleted"]) == (1, 1, 1)
    assert shop.owes() == []
    assert shop.orders() == shop.bills()
    assert shop.rows("SELECT count(*) FROM sync.outcomes")[0][0] <= written + 3
    shop.start("worker")
    shop.sell(order(6, "followed again"))
    shop.agreed()


@_SLOW
def test_a_slot_that_the_server_gave_up_is_repaired_and_a_truncated_table_is_emptied_at_the_target(
    world: World, tmp_path: Path
) -> None:
    name, value = LOST.split("=")
    with (
        PrivateServer(settings={**SETTINGS, name: value, "min_wal_size": "32MB", "max_wal_size": "32MB"}) as server,
        captured(world, server, tmp_path / "logs") as shop,
    ):
        shop.prepare(20)
        capture = shop.capture()
        shop.run()
        shop.stop(capture)
        shop.sell("CREATE TABLE noise (note text)")
        for _ in range(4):
            shop.sell(
                "INSERT INTO noise SELECT md5(n::text) FROM generate_series(1, 60000) n", "SELECT pg_switch_wal()"
            )
            shop.sell("CHECKPOINT")
        shop.sell("DELETE FROM orders WHERE number = 2")
        shop.start("capture")
        shop.until(lambda: "gave up the replication slot" in shop.told(), "the lost slot is told")
        shop.until(lambda: shop.told().count(": following ") == 2, "it follows again")
        shop.run()
        assert shop.orders() == shop.bills()
        shop.sell("TRUNCATE orders")
        shop.until(lambda: shop.owes() == [("orders", "it was emptied or replaced")], "the stream owes a compare")
        shop.run()
        assert shop.bills() == []


@_SLOW
def test_two_captures_of_one_connection_take_turns(shop: Captured) -> None:
    shop.prepare(3)
    first = shop.capture()
    second = shop.start("capture")
    shop.until(lambda: "standing by" in shop.told(), "the second one stands by")
    shop.sell(order(1, "by the first"))
    shop.until(lambda: shop.rows("SELECT count(*) FROM sync.inbox") == [(1,)], "stored once")
    shop.kill(first)
    shop.sell(order(2, "by the second"))
    shop.until(lambda: shop.rows("SELECT count(*) FROM sync.inbox") == [(2,)], "the second one took over")
    assert second.poll() is None


def test_a_table_altered_while_it_is_followed_goes_on_and_is_compared(shop: Captured) -> None:
    shop.prepare(20)
    shop.sell("ALTER TABLE orders ADD COLUMN extra text DEFAULT 'x'")
    shop.capture()
    shop.run()
    shop.start("worker")
    shop.sell(order(1, "before"))
    shop.agreed()
    shop.sell("ALTER TABLE orders DROP COLUMN extra", "ALTER TABLE orders ADD COLUMN more int DEFAULT 7")
    shop.sell(order(2, "after"), order(300, "new"), "DELETE FROM orders WHERE number = 3")
    shop.agreed()
    assert shop.owes() == [("orders", "its columns changed")]
    shop.run()
    assert shop.owes() == []
    assert shop.orders() == shop.bills()


def test_check_says_before_anything_runs_what_cannot_be_followed(shop: Captured) -> None:
    shop.prepare()
    assert shop.world.cli("check", "--json").code == 0
    shop.sell("ALTER TABLE orders REPLICA IDENTITY NOTHING")
    found = shop.world.cli("check", "--json")
    assert found.code == 2
    (problem,) = found.json["problems"]
    assert "no replica identity" in problem["message"]
    assert problem["file"] == f"assets/{SYNC}/defs.yaml"
    assert json.dumps(problem).count("REPLICA IDENTITY FULL") == 1


@pytest.mark.timeout(900)
def test_a_deep_backlog_is_delivered_in_bulk_and_the_same_arrives(shop: Captured) -> None:
    shop.prepare(10)
    shop.capture()
    shop.run()
    many = f"INSERT INTO orders SELECT '{SHOP}', n, n * 0.5, 'many' FROM generate_series(1001, 13000) n"
    shop.sell(many, "UPDATE orders SET note = 'edited' WHERE number < 5", "DELETE FROM orders WHERE number = 6")
    shop.until(lambda: shop.waiting() == 12_005, "every change waits")
    worker = shop.start("worker")
    shop.agreed(400)
    in_bulk = "SELECT count(*) FROM sync.queue WHERE outcome = 'delivered in bulk'"
    ((first,),) = shop.rows(in_bulk)
    assert first > 5_000
    shop.stop(worker)
    shop.sell(
        "DELETE FROM orders WHERE number BETWEEN 1001 AND 7000", "UPDATE orders SET total = 1 WHERE number > 12000"
    )
    shop.until(lambda: shop.waiting() == 7_000, "every change waits")
    shop.start("worker")
    shop.agreed(400)
    assert shop.rows(in_bulk)[0][0] > first + 5_000
    assert "SQLite objects" not in shop.told()
    links, doubled = shop.rows("SELECT count(*), count(*) - count(DISTINCT target_id) FROM sync.links")[0]
    assert (links, doubled) == (len(shop.bills()), 0)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "point",
    [
        "staging_loaded",
        *(pytest.param(one, marks=_SLOW) for one in ("request_sent", "answer_received", "outcome_written")),
    ],
)
def test_a_worker_killed_within_a_bulk_delivery_loses_nothing_and_doubles_nothing(shop: Captured, point: str) -> None:
    shop.prepare(10)
    shop.capture()
    shop.run()
    shop.sell(f"INSERT INTO orders SELECT '{SHOP}', n, n * 0.5, 'many' FROM generate_series(1001, 9000) n")
    shop.until(lambda: shop.waiting() == 8_000, "every change waits")
    passed = 2 if point in ("request_sent", "answer_received", "outcome_written") else 1  # behind the batch before it
    killed = shop.start("worker", SYNC_CRASH_AT=f"{point}:{passed}")
    shop.until(lambda: killed.poll() is not None, "the worker dies", 120)
    assert killed.returncode == -9
    shop.start("worker")
    shop.agreed(400)
    links, doubled = shop.rows("SELECT count(*), count(*) - count(DISTINCT target_id) FROM sync.links")[0]
    assert (links, doubled) == (len(shop.bills()), 0)
    creates = (
        "SELECT count(*), count(DISTINCT source_key) FROM sync.outcomes WHERE op = 'create' AND status = 'applied'"
    )
    told = shop.world.cli("sql", creates, "--json").json[0]
    assert len(set(told.values())) == 1, "every record was created once, and told once"
