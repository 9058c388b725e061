"""A deep backlog: thousands of records of which events wait are read back, staged and delivered as one plan.

In bulk a change costs a fraction of what it costs event by event (docs/performance.md), even with what a plan costs.
What is delivered is the same: the records are read back by their keys, staged like a read of them, and the batch
lane's own steps do the rest, under the sync's lock. The events are done when the plan is delivered; whoever dies
before that leaves them to the next worker.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sync_platform.connectors.capture import captures
from sync_platform.connectors.connector import BulkTarget
from sync_platform.engine.deliver import deliver
from sync_platform.engine.desired import prepare
from sync_platform.engine.planning import make_plan
from sync_platform.engine.recover import recover
from sync_platform.realtime.keyed import KeyedLoads
from sync_platform.realtime.queue import Batch, alone, finish_all
from sync_platform.session import Session
from sync_platform.staging.source import Source
from sync_platform.state.locks import held_by

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database

#: So many events of one sync are a deep backlog.
DEEP: Final = 1_000
#: Events of one bulk delivery at most.
MOST: Final = 50_000


def deep(database: Database, sync: str) -> bool:
    """Whether so many events of a sync wait for anybody."""
    row = database.statement(
        """SELECT count(*) >= %(deep)s FROM (SELECT FROM sync.queue WHERE sync = %(sync)s AND state = 'waiting'
           AND owner IS NULL AND (not_before IS NULL OR not_before <= now()) LIMIT %(deep)s) AS waiting""",
        {"sync": sync, "deep": DEEP},
    )
    return row is not None and bool(row[0])


def suits(session: Session, spec: SyncSpec) -> bool:
    """Whether a sync's backlog may be delivered in bulk now.

    Nobody may be running the sync: its events would wait for that run instead of being delivered meanwhile.
    """
    return could(session, spec) and held_by(session.database, f"sync:{spec.name}") is None


def could(session: Session, spec: SyncSpec) -> bool:
    """Whether a sync's backlog can be delivered in bulk: its source only hints, its target takes whole parts."""
    return (
        spec.two_way is None
        and captures(session.connector(spec.source.connection))
        and isinstance(session.connector(spec.target.connection), BulkTarget)
        and session.project.stream_options(spec.source).filter is None
    )


def make_ready(session: Session, spec: SyncSpec, loads: KeyedLoads) -> None:
    """Makes ready what the first delivery in bulk needs; imports alone take a second."""
    if could(session, spec):
        loads.prepare(spec.source.connection, _source(session, spec))


def _source(session: Session, spec: SyncSpec) -> Source:
    connector = session.connector(spec.source.connection)
    options = session.project.stream_options(spec.source)
    return Source(
        connector=connector, stream=connector.stream(spec.source.object), fields=options.fields, where=None
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkDelivery:
    """Delivers the claimed records of one batch as a plan."""

    session: Session
    spec: SyncSpec
    worker: str
    loads: KeyedLoads

    def deliver(self, batch: Batch) -> bool:
        """Reads back, stages, plans, writes, and finishes the events; False when a full read must come first.

        Raises what the steps of a run raise; the events are then still this worker's.
        """
        spec, base = self.spec, self.session
        run = Session(base.project, base.database, base.lake, str(uuid.uuid4()), base.say)
        run._connectors = base._connectors
        with run:
            run.hold(spec.name)
            try:
                if not self.loads.stage(spec.source.connection, _source(run, spec), batch.keys):
                    return False
                recover(run, spec)
                planned = make_plan(run, spec, prepare(run, spec))
                deliver(run, spec, planned.plan_id, exact=False, next_sync=None)
            except BaseException:
                run.failed = True
                raise
        with base.database.connection() as connection:
            alone(connection, self.worker)
            finish_all(connection, self.worker, batch, "delivered in bulk", f"by run {run.run_id}")
        return True
