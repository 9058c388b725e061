"""The first schema: identities, links, plans, outcomes, dead letters, tokens and call budgets."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_RECORDS = """
CREATE TABLE sync.identities (
    source_connection text NOT NULL, source_object text NOT NULL, source_key text NOT NULL,
    target_connection text NOT NULL, target_object text NOT NULL, target_id text NOT NULL,
    merged_into text, created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source_connection, source_object, source_key, target_connection, target_object));
CREATE INDEX identities_target ON sync.identities (target_connection, target_object, target_id);

CREATE TABLE sync.links (
    sync text NOT NULL, source_key text NOT NULL, target_id text NOT NULL, base bigint, version_cursor bigint,
    version_read_at bigint, updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (sync, source_key));
CREATE INDEX links_target ON sync.links (sync, target_id);

CREATE TABLE sync.members (
    sync text NOT NULL, source_key text NOT NULL, dedupe_key text, PRIMARY KEY (sync, source_key));
CREATE INDEX members_dedupe_key ON sync.members (sync, dedupe_key);

CREATE TABLE sync.claims (
    target_connection text NOT NULL, target_object text NOT NULL, target_key text NOT NULL, owner uuid NOT NULL,
    lease_until timestamptz NOT NULL, PRIMARY KEY (target_connection, target_object, target_key));

CREATE TABLE sync.intents (
    token text PRIMARY KEY, sync text NOT NULL, plan_id uuid, run_id text, source_key text NOT NULL, op text NOT NULL,
    target_connection text NOT NULL, target_object text NOT NULL, target_id text, match jsonb, fields jsonb,
    created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX intents_sync ON sync.intents (sync, source_key);

CREATE TABLE sync.held (
    sync text NOT NULL, source_key text NOT NULL, kind text NOT NULL, reason text, detail jsonb,
    since timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (sync, source_key));

CREATE TABLE sync.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sync text NOT NULL, source_key text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('contract', 'rejected', 'transient')), field text, reason text, resolution text,
    reasons jsonb, payload jsonb, attempts integer NOT NULL DEFAULT 1,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'retry', 'settled', 'discarded')),
    source_hash numeric(20), config_hash text, first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now());
CREATE UNIQUE INDEX dead_letters_waiting ON sync.dead_letters (sync, source_key) WHERE state IN ('open', 'retry');
"""

_WORK = """
CREATE TABLE sync.plans (
    plan_id uuid PRIMARY KEY, sync text NOT NULL, digest text, config_hash text, compare text, positions_from jsonb,
    positions_to jsonb, evaluated_at timestamptz,
    state text NOT NULL DEFAULT 'building' CHECK (state IN
        ('building', 'ready', 'blocked', 'delivering', 'settled', 'superseded', 'expired', 'failed')),
    reason text, summary jsonb NOT NULL DEFAULT '{}', created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz, run_id text);
CREATE INDEX plans_sync ON sync.plans (sync, created_at);

CREATE TABLE sync.positions (
    sync text PRIMARY KEY, positions jsonb NOT NULL, evaluated_at timestamptz, config_hash text, run_id text,
    updated_at timestamptz NOT NULL DEFAULT now());

CREATE TABLE sync.runs (
    run_id text PRIMARY KEY, sync text NOT NULL, pid integer, host text, started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz, state text NOT NULL DEFAULT 'running');
CREATE INDEX runs_sync ON sync.runs (sync, started_at);

CREATE TABLE sync.reports (
    run_id text PRIMARY KEY, sync text NOT NULL, lane text NOT NULL, finished_at timestamptz NOT NULL DEFAULT now(),
    report jsonb NOT NULL);
CREATE INDEX reports_sync ON sync.reports (sync, finished_at);

CREATE TABLE sync.loads (
    load_id text PRIMARY KEY, connection text NOT NULL, stream text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz, rows_read bigint NOT NULL DEFAULT 0,
    rows_changed bigint NOT NULL DEFAULT 0, rows_deleted bigint NOT NULL DEFAULT 0, seq_to bigint,
    complete boolean NOT NULL DEFAULT false, state text NOT NULL DEFAULT 'running');
CREATE INDEX loads_stream ON sync.loads (connection, stream, started_at);

CREATE SEQUENCE sync.seq AS bigint;
"""

_PROOF = """
CREATE TABLE sync.outcomes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, time timestamptz NOT NULL DEFAULT clock_timestamp(),
    sync text NOT NULL, run_id text, plan_id uuid, lane text, source_key text, target_id text, op text NOT NULL,
    status text NOT NULL, fields jsonb, reason text, resolution text, request_id text);
CREATE INDEX outcomes_key ON sync.outcomes (sync, source_key);
CREATE INDEX outcomes_run ON sync.outcomes (run_id);

CREATE TABLE sync.audit_batches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sync text NOT NULL, run_id text, first_outcome bigint,
    last_outcome bigint, salt bytea, root bytea NOT NULL, previous bytea,
    created_at timestamptz NOT NULL DEFAULT now());

CREATE FUNCTION sync.refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'sync.% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
"""

_ACCESS = """
CREATE TABLE sync.tokens (
    connection text PRIMARY KEY, secret bytea NOT NULL, updated_at timestamptz NOT NULL DEFAULT now());

-- Times of a budget are seconds since the epoch: they are numbers to calculate with, not dates to read.
CREATE TABLE sync.quota (
    account text NOT NULL, bucket text NOT NULL, tat double precision NOT NULL DEFAULT 0,
    rate double precision NOT NULL DEFAULT 0, burst double precision NOT NULL DEFAULT 1,
    blocked_until double precision NOT NULL DEFAULT 0, learned_at timestamptz,
    waiting_until double precision NOT NULL DEFAULT 0, PRIMARY KEY (account, bucket))
    WITH (fillfactor = 50);

-- The password of the role that `sync-platform sql` uses; only this schema's owner reads it.
CREATE TABLE sync.reader (role text PRIMARY KEY, password text NOT NULL);
"""

# One call of `connectors.quota.take` under the row's lock: a test holds both to the same answers. On top
# of it, one who has not waited books no slot while others wait, so that nobody keeps the queue to himself.
_TAKE = """
CREATE FUNCTION sync.take(
    whose text, which text, cost double precision, reserve double precision, ahead double precision,
    max_wait double precision, waited boolean, at double precision,
    OUT granted boolean, OUT wait double precision, OUT rate double precision, OUT burst double precision)
LANGUAGE plpgsql AS $$
DECLARE
    b sync.quota;
    now_ double precision;
    after double precision;
    lead double precision;
    queues boolean;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);  -- a grant lost with the machine does no harm
    SELECT * INTO b FROM sync.quota q WHERE q.account = whose AND q.bucket = which FOR UPDATE;
    now_ := coalesce(at, extract(epoch FROM clock_timestamp()));
    granted := true; wait := 0; rate := coalesce(b.rate, 0); burst := coalesce(b.burst, 1);
    IF now_ < b.blocked_until THEN
        granted := false; wait := b.blocked_until - now_;
    ELSIF rate > 0 THEN
        lead := greatest(burst * (1 - reserve), cost, 1);
        after := greatest(b.tat, now_) + cost / rate;
        wait := greatest(0, after - lead / rate - now_);
        queues := ahead > 0 AND ahead < 'Infinity';
        IF queues AND NOT waited AND b.waiting_until > now_ THEN
            ahead := 0;
        END IF;
        granted := wait <= ahead * cost / rate AND wait <= max_wait;
        IF granted THEN
            UPDATE sync.quota q SET tat = after WHERE q.account = whose AND q.bucket = which;
        ELSIF queues THEN
            UPDATE sync.quota q SET waiting_until = greatest(b.waiting_until, now_ + wait + 0.1)
            WHERE q.account = whose AND q.bucket = which;
        END IF;
    END IF;
END $$;
"""

_PUBLIC = """
CREATE SCHEMA IF NOT EXISTS lake;
CREATE SCHEMA IF NOT EXISTS dagster;
CREATE SCHEMA sync_public;
CREATE VIEW sync_public.outcomes AS
    SELECT id, time, sync, run_id, plan_id, lane, source_key, target_id, op, status, fields, reason, resolution,
           request_id FROM sync.outcomes;
CREATE VIEW sync_public.reports AS SELECT run_id, sync, lane, finished_at, report FROM sync.reports;
CREATE VIEW sync_public.links AS
    SELECT sync, source_key, target_id, base, version_cursor, version_read_at, updated_at FROM sync.links;
CREATE VIEW sync_public.dead_letters AS
    SELECT id, sync, source_key, kind, field, reason, resolution, reasons, payload, attempts, state, first_at, last_at
    FROM sync.dead_letters;
REVOKE ALL ON SCHEMA sync, sync_public, lake, dagster FROM PUBLIC;
"""


def upgrade() -> None:
    """The schema from nothing; there is no way down: restore a backup instead."""
    for script in (_RECORDS, _WORK, _PROOF, _ACCESS, _TAKE, _PUBLIC):
        op.execute(script)
    for table in ("outcomes", "audit_batches"):
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON sync.{table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION sync.refuse_rewrite()"
        )
        # also for sessions that set session_replication_role
        op.execute(f"ALTER TABLE sync.{table} ENABLE ALWAYS TRIGGER append_only")
