"""What a delivery in bulk is made of: events claimed and finished as a whole, rows staged by their keys."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest

from sync_platform.realtime import queue
from sync_platform.realtime.keyed import KeyedLoads
from sync_platform.realtime.queue import FencedError
from sync_platform.staging import debts
from sync_platform.staging.load import Source
from sync_platform.staging.tables import high_seq
from tests.unit.warm.crm import LEAD
from tests.unit.warm.office import Office

ONE, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def claim_all(office: Office, worker: str, limit: int = 10) -> queue.Batch | None:
    return queue.claim_all(office.database, worker, "leads", limit)


def finish_all(office: Office, worker: str, batch: queue.Batch) -> None:
    with office.database.connection() as connection:
        queue.finish_all(connection, worker, batch, "delivered in bulk", "by run 7")


def test_all_that_waits_is_claimed_once_oldest_first_and_finished_as_a_whole(office: Office) -> None:
    for key in ("b", "a", "b", "c"):
        office.event(key)
    batch = claim_all(office, ONE)
    assert batch is not None
    assert batch.keys == ["b", "a", "c"]
    assert claim_all(office, OTHER) is None
    office.event("a")
    finish_all(office, ONE, batch)
    told = office.queue()
    assert told[:4] == [(key, "done", "delivered in bulk") for key in ("b", "a", "b", "c")]
    assert told[4] == ("a", "waiting", None)


def test_a_limit_takes_the_oldest_records_with_all_their_events(office: Office) -> None:
    for key in ("a", "b", "c", "a"):
        office.event(key)
    batch = claim_all(office, ONE, limit=2)
    assert batch is not None
    assert batch.keys == ["a", "b"]
    assert office.rows("SELECT count(*) FROM sync.queue WHERE owner = %s", ONE) == [(3,)]


def test_a_record_that_somebody_works_on_or_that_waits_for_its_next_try_is_left_alone(office: Office) -> None:
    for key in ("a", "b"):
        office.event(key)
    assert queue.claim(office.database, OTHER, ["leads"], 1) is not None
    assert queue.claim(office.database, ONE, ["leads"], 1) is not None
    queue.release(office.database, ONE, "leads", ["b"], delay=60, counted=True, reason="busy")
    for key in ("a", "b", "c"):
        office.event(key)
    batch = claim_all(office, ONE)
    assert batch is not None
    assert batch.keys == ["c"]


def test_a_worker_that_lost_one_event_of_a_bulk_finishes_none(office: Office) -> None:
    for key in ("a", "b"):
        office.event(key)
    batch = claim_all(office, ONE)
    assert batch is not None
    office.rows("UPDATE sync.queue SET owner = NULL WHERE key = 'a' RETURNING 1")
    with pytest.raises(FencedError):
        finish_all(office, ONE, batch)
    assert {state for _, state, _ in office.queue()} == {"waiting"}


def test_a_lease_is_renewed_when_half_of_it_is_left_and_not_before(office: Office) -> None:
    office.event("a")
    batch = claim_all(office, ONE)
    assert batch is not None
    lease = "SELECT lease_until FROM sync.queue"
    before = office.rows(lease)
    queue.renew(office.database, ONE, [batch.plan_id])
    assert office.rows(lease) == before
    office.rows("UPDATE sync.queue SET lease_until = now() + interval '14 seconds' RETURNING 1")
    queue.renew(office.database, ONE, [batch.plan_id])
    assert office.rows("SELECT lease_until > now() + interval '20 seconds' FROM sync.queue") == [(True,)]


def keyed(office: Office, loads: KeyedLoads, *keys: str) -> bool:
    return loads.stage("crm", Source(connector=office.crm, stream=LEAD, fields=None, where=None), keys)


def staged(office: Office) -> list[tuple[str, str | None, bool]]:
    with office.lake.connect() as con:
        return con.execute('SELECT _key, "Name", _deleted FROM lake.crm."Lead" ORDER BY 1').fetchall()


def test_rows_are_staged_by_key_new_changed_and_gone_ones_and_no_position_moves(office: Office) -> None:
    loads = KeyedLoads(office.lake)
    for key in ("a", "b", "c"):
        office.crm.put(key, f"{key}@x", "first")
    office.stage()
    office.crm.put("a", "a@x", "second")
    del office.crm.rows["b"]
    office.crm.put("d", "d@x", "new")
    assert keyed(office, loads, "a", "b", "d", "never")
    assert staged(office) == [
        ("a", "second", False), ("b", "first", True), ("c", "first", False), ("d", "new", False),
    ]  # fmt: skip
    office.crm.put("e", "e@x", "beyond")
    assert keyed(office, loads, "e")  # beyond all staged keys: its file becomes one of the table's
    assert [row[0] for row in staged(office)] == ["a", "b", "c", "d", "e"]
    with office.lake.connect() as con:
        before = high_seq(con, "crm", "Lead")
        assert keyed(office, loads, "a", "b", "e")
        assert high_seq(con, "crm", "Lead") == before, "an equal row was written again"
    assert office.rows("SELECT count(*) FROM sync.loads") == [(1,)]


def test_a_stream_that_was_never_read_or_owes_a_read_is_not_staged_by_key(office: Office) -> None:
    loads = KeyedLoads(office.lake)
    office.crm.put("a", "a@x")
    assert not keyed(office, loads, "a")
    office.stage()
    assert keyed(office, loads, "a")
    with office.database.connection() as connection:
        debts.owe(connection, "crm", ["Lead"], "its columns changed")
    office.crm.put("b", "b@x")
    assert not keyed(office, loads, "b")
    assert [row[0] for row in staged(office)] == ["a"]


def test_a_column_that_older_rows_were_read_without_makes_the_stream_owe_a_read(office: Office) -> None:
    loads = KeyedLoads(office.lake)
    office.crm.hidden.add("Email")
    office.crm.put("a", "a@x")
    office.stage()
    office.crm.hidden.clear()
    office.crm.put("b", "b@x", at=dt.datetime.now(dt.UTC))
    assert keyed(office, loads, "b")
    debt = debts.owed(office.database, "crm", "Lead")
    assert debt is not None
    assert "Email is new" in debt.reason
    assert not keyed(office, loads, "b")


def test_a_load_in_between_is_noticed(office: Office) -> None:
    loads = KeyedLoads(office.lake)
    office.crm.put("a", "a@x")
    office.stage()
    assert keyed(office, loads, "a")
    (known,) = loads._readings.values()
    office.stage()
    assert keyed(office, loads, "a")
    (again,) = loads._readings.values()
    assert again[0] != known[0]
    assert again[1].chunk >= known[1].chunk
