"""A deep backlog: thousands of records of which events wait are read back, staged and delivered as one plan.

In bulk a change costs a fraction of what it costs event by event (docs/performance.md), even with what a plan costs.
What is delivered is the same: the records are read back by their keys, staged like a read of them, and the batch
lane's own steps do the rest, under the sync's lock. The events are done when the plan is delivered; whoever dies
before that leaves them to the next worker.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from sync_platform.connectors.capture import captures
from sync_platform.connectors.connector import BulkTarget
from sync_platform.connectors.sql import key_parts
from sync_platform.engine.deliver import deliver
from sync_platform.engine.desired import prepare
from sync_platform.engine.lookups import with_target_id
from sync_platform.engine.planning import make_plan
from sync_platform.engine.recover import recover
from sync_platform.model import DELETED, Page, Stream
from sync_platform.realtime.queue import NO_LOOPS, Batch, alone, finish
from sync_platform.session import Session
from sync_platform.staging import debts
from sync_platform.staging.absence import Absence
from sync_platform.staging.chunks import Chunks, Limits
from sync_platform.staging.landing import Landing, quiet, translated
from sync_platform.staging.load import Load, lock_name
from sync_platform.staging.merge import describe
from sync_platform.staging.source import Source, needs_full_read
from sync_platform.state.locks import advisory_lock, held_by

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database

#: So many events of one sync are a deep backlog.
DEEP: Final = 2_500
#: Events of one bulk delivery at most.
MOST: Final = 50_000
_AT_ONCE: Final = 20_000


def deep(database: Database, sync: str) -> bool:
    """Whether so many events of a sync wait for anybody."""
    row = database.statement(
        """SELECT count(*) >= %(deep)s FROM (SELECT FROM sync.queue WHERE sync = %(sync)s AND state = 'waiting'
           AND owner IS NULL AND (not_before IS NULL OR not_before <= now()) LIMIT %(deep)s) AS waiting""",
        {"sync": sync, "deep": DEEP},
    )
    return row is not None and bool(row[0])


def suits(session: Session, spec: SyncSpec) -> bool:
    """Whether a sync's backlog may be delivered in bulk: its source only hints, its target takes whole parts.

    Nobody may be running the sync now: its events would wait for that run instead of being delivered meanwhile.
    """
    return (
        spec.two_way is None
        and captures(session.connector(spec.source.connection))
        and isinstance(session.connector(spec.target.connection), BulkTarget)
        and session.project.stream_options(spec.source).filter is None
        and held_by(session.database, f"sync:{spec.name}") is None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkDelivery:
    """Delivers the claimed records of one batch as a plan."""

    session: Session
    spec: SyncSpec
    worker: str

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
                if not self._staged(run, batch.keys):
                    return False
                recover(run, spec)
                planned = make_plan(run, spec, prepare(run, spec))
                deliver(run, spec, planned.plan_id, exact=False, next_sync=None)
            except BaseException:
                run.failed = True
                raise
        with base.database.connection() as connection:
            alone(connection, self.worker)
            connection.execute(NO_LOOPS)
            done = ("delivered in bulk", f"by run {run.run_id}")
            finish(connection, self.worker, batch.sync, dict.fromkeys(batch.keys, done))
        return True

    def _staged(self, run: Session, keys: Sequence[str]) -> bool:
        place = self.spec.source
        options = run.project.stream_options(place)
        connector = run.connector(place.connection)
        source = Source(connector=connector, stream=connector.stream(place.object), fields=options.fields, where=None)
        quiet()
        with (
            advisory_lock(run.database, lock_name(place.connection, place.object)) as lock,
            translated(run.lake),
            run.lake.connect() as con,
            Landing(run.lake, place.connection, place.object) as landing,
        ):
            reading = landing.reading
            if reading.position is None or not reading.finished or needs_full_read(reading, options.fields, None):
                return False
            if debts.owed(run.database, place.connection, place.object) is not None:
                return False
            load = KeyedLoad(run.lake, place.connection, source, lock, "", Limits(), None)
            load.con, load.landing = con, landing
            load.take(keys)
        return True


class KeyedLoad(Load):
    """A load of some rows by their keys: the stream's position stays where it is, and no other load joins it."""

    def take(self, keys: Sequence[str]) -> None:
        """Reads these rows and stages what differs; one that is not there is staged as deleted."""
        source, stream = self._source, self._source.stream
        self._merge()  # what an interrupted load left
        self._position = dict(self.landing.reading.position or {})
        self._chunks = Chunks(
            pages=self._pages(keys),
            name=f"{self._connection}/{stream.name}",
            key=stream.key,
            staged=dict(describe(self.con, self._connection, stream.name).types),
            discover=lambda: source.connector.discover(stream.name),
        )
        absence = Absence(self.con, self._lake, self._connection, stream, proven=False)
        for chunk in self._chunks:
            self._store(chunk, absence)
            if chunk.error is not None:
                raise chunk.error

    def _report(self) -> None:
        """Nothing: the load is part of a delivery."""

    def _pages(self, keys: Sequence[str]) -> Iterator[Page]:
        stream = self._source.stream
        names = self._source.asked() or [one.name for one in self._source.connector.discover(stream.name)]
        for start in range(0, len(keys), _AT_ONCE):
            some, read_at = keys[start : start + _AT_ONCE], dt.datetime.now(dt.UTC)
            found = self._source.connector.get(stream.name, some, names)
            yield Page(table=found, position=None, read_at=read_at)
            there = (
                set(with_target_id(found.select(list(stream.key)), stream)["_target_id"]) if found.num_rows else set()
            )
            gone = [key for key in some if key not in there]
            if gone:
                yield Page(table=_tombstones(gone, stream, found.schema), position=None, read_at=read_at)


def _tombstones(keys: Sequence[str], stream: Stream, schema: pa.Schema) -> pa.Table:
    """Rows of which nothing is known but their keys and that they are gone."""
    parts = list(zip(*(key_parts(key, stream.key) for key in keys), strict=True))
    columns = {
        name: pa.array(texts, pa.string()).cast(schema.field(name).type)
        for name, texts in zip(stream.key, parts, strict=True)
    }
    return pa.table({**columns, DELETED: pa.repeat(pa.scalar(True), len(keys))})
