"""The warm lane: received events, what each sync has to do about them, rows read back, workers and circuits."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

# An event is stored once per connection; `queue` holds one row for every sync that reads its stream.
_EVENTS = """
CREATE TABLE sync.inbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, connection text NOT NULL, event_id text NOT NULL,
    stream text NOT NULL, key text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('created', 'updated', 'deleted', 'merged')),
    occurred_at timestamptz NOT NULL, fields jsonb NOT NULL DEFAULT '{}',
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(), UNIQUE (connection, event_id));
CREATE INDEX inbox_received ON sync.inbox (received_at);

CREATE TABLE sync.queue (
    sync text NOT NULL, seq bigint NOT NULL REFERENCES sync.inbox ON DELETE CASCADE, key text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'dead')),
    attempts integer NOT NULL DEFAULT 0, not_before timestamptz, owner uuid, lease_until timestamptz,
    plan_id uuid, outcome text, reason text, finished_at timestamptz, PRIMARY KEY (sync, seq))
    WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX queue_free ON sync.queue (sync, seq) WHERE state = 'waiting' AND owner IS NULL;
CREATE INDEX queue_unfinished ON sync.queue (sync, key, seq) WHERE state = 'waiting';
CREATE INDEX queue_owned ON sync.queue (owner) WHERE owner IS NOT NULL;
CREATE INDEX queue_finished ON sync.queue (sync, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX queue_seq ON sync.queue (seq);
"""

# The newest state of a source record that an event brought; plans read staging overlaid with it. `read_cursor` is
# the cursor when it was last read whole, `field_times` the moment (microseconds) of each value an event told since.
_OBSERVED = """
CREATE TABLE sync.observed (
    connection text NOT NULL, stream text NOT NULL, key text NOT NULL, row jsonb NOT NULL,
    deleted boolean NOT NULL DEFAULT false, version_cursor bigint, version_read_at bigint NOT NULL,
    read_cursor bigint, field_times jsonb NOT NULL DEFAULT '{}', observed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connection, stream, key)) WITH (fillfactor = 70);
"""

_WORKERS = """
CREATE TABLE sync.workers (
    worker_id uuid PRIMARY KEY, host text NOT NULL, pid integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(), seen_at timestamptz NOT NULL DEFAULT now());

-- Shared by all workers: a target that keeps failing is left alone until `retry_at`.
CREATE TABLE sync.circuits (
    connection text PRIMARY KEY, failures integer NOT NULL DEFAULT 0, opened_at timestamptz, retry_at timestamptz,
    reason text);

-- What was last told to people about a sync, so that a change of state is told once.
CREATE TABLE sync.alerts (
    sync text NOT NULL, subject text NOT NULL, state text NOT NULL, changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sync, subject));
"""

_PUBLIC = """
CREATE VIEW sync_public.events AS
    SELECT i.connection, i.event_id, i.stream, i.key, i.kind, i.occurred_at, i.received_at, q.sync, q.state, q.attempts,
           q.plan_id, q.outcome, q.reason, q.finished_at
    FROM sync.inbox i LEFT JOIN sync.queue q USING (seq);
"""


def upgrade() -> None:
    """Adds the tables; there is no way down: restore a backup instead."""
    for script in (_EVENTS, _OBSERVED, _WORKERS, _PUBLIC):
        op.execute(script)
