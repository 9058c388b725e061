"""A realtime sync that waits when a schema changes: its events wait, too, also in a worker that has prepared it."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from sync_platform.engine.drift import accept
from sync_platform.realtime.worker import STALE_AFTER
from tests.unit.warm.crm import Crm
from tests.unit.warm.office import Office


class Growing(Crm):
    """A source that gets new fields."""

    _more: list[pa.Field] = PrivateAttr(default_factory=list)

    def discover(self, stream: str) -> pa.Schema:
        """The fields, and those it got since."""
        return pa.schema([*super().discover(stream), *self._more])


@pytest.mark.parametrize("restarted", [True, False])
def test_events_wait_while_a_sync_is_paused_and_are_delivered_once_it_goes_on(office: Office, restarted: bool) -> None:
    office.crm = crm = Growing()
    office.spec = replace(office.spec, drift="pause")
    now = [0.0]
    worker = office.worker(clock=lambda: now[0])
    crm.put("l1", "a@x")
    office.event("l1", "created")
    worker.drain()
    assert office.shelf.emails() == ["a@x"]

    crm._more.append(pa.field("Phone", pa.string()))
    now[0] += STALE_AFTER + 1
    worker = office.worker() if restarted else worker
    worker._prepare()  # what its heart does every few seconds
    crm.put("l2", "b@x")
    office.event("l2", "created")
    worker.drain()
    assert office.shelf.emails() == ["a@x"]
    assert office.queue()[-1][:2] == ("l2", "waiting")
    assert any("is paused, because a schema changed: crm/Lead has a new field Phone" in line for line in office.said)
    assert office.rows("SELECT count(*) FROM sync.dead_letters") == [(0,)]

    with office.session() as session:
        assert accept(session, office.spec) == ["crm/Lead has a new field Phone (string)"]
    office.work(2)
    assert office.shelf.emails() == ["a@x", "b@x"]
