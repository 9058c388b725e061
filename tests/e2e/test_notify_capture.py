"""A trigger's notifications wake the processes a user starts, by a role that may not replicate, through a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.captured import SHOP, Captured, captured
from tests.private_postgres import PrivateServer
from tests.world import World

FILES = {
    "resources/systems.py": """
        from dagster import EnvVar

        from sync_platform.connectors.postgres import Postgres

        shop = Postgres(url=EnvVar("SHOP_URL"), notify="shop_changes")
        ledger = Postgres(url=EnvVar("LEDGER_URL"))
        """,
}
TELLS = """
CREATE FUNCTION tell_sync() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE old_key text := json_build_array(OLD.shop::text, OLD.number::text);
        new_key text := json_build_array(NEW.shop::text, NEW.number::text);
BEGIN
  IF TG_OP <> 'INSERT' THEN PERFORM pg_notify('shop_changes', TG_TABLE_NAME || ':' || old_key); END IF;
  IF TG_OP <> 'DELETE' THEN PERFORM pg_notify('shop_changes', TG_TABLE_NAME || ':' || new_key); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER tell_sync AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION tell_sync();
"""


@pytest.fixture(scope="module")
def shop_server() -> Iterator[PrivateServer]:
    """A server without logical decoding, which loses nothing when it is killed."""
    with PrivateServer(durable=True, settings={"wal_level": "replica"}) as server:
        yield server


@pytest.fixture
def shop(world: World, shop_server: PrivateServer, tmp_path: Path) -> Iterator[Captured]:
    """An installation of one realtime sync whose source is read by a role that may only SELECT."""
    with captured(world, shop_server, tmp_path / "logs") as made:
        made.prepare(10, FILES)
        made.sell(
            TELLS,
            "DO $$ BEGIN CREATE ROLE reader LOGIN PASSWORD 'only-reads'; EXCEPTION WHEN duplicate_object THEN END $$",
            "GRANT SELECT ON orders TO reader",
        )
        made.world.extra["SHOP_URL"] = made.shop.replace(f"postgres:{shop_server.password}@", "reader:only-reads@")
        yield made


def order(number: int, note: str) -> str:
    return (
        f"INSERT INTO orders VALUES ('{SHOP}', {number}, {number}.5, '{note}') "
        "ON CONFLICT (shop, number) DO UPDATE SET note = excluded.note"
    )


@pytest.mark.timeout(600)
def test_notified_changes_reach_the_target_and_those_of_an_outage_are_compared(
    shop: Captured, shop_server: PrivateServer
) -> None:
    assert shop.world.cli("check", "--json").json["ok"]
    capture = shop.capture()
    assert [stream for stream, _ in shop.owes()] == ["orders"]
    shop.run()
    assert shop.owes() == []
    worker = shop.start("worker")
    loads = shop.rows("SELECT count(*) FROM sync.loads")
    shop.sell(
        order(1, "edited"),
        order(100, "new"),
        "DELETE FROM orders WHERE number = 2",
        "UPDATE orders SET number = 1000 WHERE number = 3",
    )
    shop.agreed()
    assert shop.rows("SELECT count(*) FROM sync.loads") == loads, "they came by their events"

    shop_server.stop(kill=True)
    time.sleep(1)
    shop_server.start()
    shop.sell(order(4, "while nobody listened"), "DELETE FROM orders WHERE number = 5")
    shop.until(lambda: [stream for stream, _ in shop.owes()] == ["orders"], "the outage owes a compare")
    shop.until(
        lambda: shop.world.cli("status", "--json").json["captures"][0]["state"] == "following", "it listens again"
    )
    shop.run()
    shop.agreed()
    assert shop.owes() == []
    shop.sell(order(6, "afterwards"))
    shop.agreed()
    assert shop.slots() == []
    shop.stop(capture, worker)
    assert capture.returncode == worker.returncode == 0
    assert shop.world.cli("capture", "forget", "shop").code == 0
    with psycopg.connect(shop.shop) as db:
        assert db.execute("SELECT count(*) FROM pg_publication").fetchone() == (0,)
