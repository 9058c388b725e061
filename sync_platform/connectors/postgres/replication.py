"""What a server keeps for whoever follows it: a publication that names the tables, and a slot that holds the log.

https://www.postgresql.org/docs/current/logicaldecoding-explanation.html

Adding a table to a publication makes PostgreSQL refuse its updates and deletes when the table has no replica identity,
so `problems` looks at everything first. The publication is always made before the slot: decoding looks it up as it
was at each change, and a slot older than its publication could not be read.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sync_platform.connectors.capture import Behind, PositionLostError
from sync_platform.connectors.postgres.keys import unfollowable
from sync_platform.connectors.postgres.session import Server, Session, identifier, literal
from sync_platform.connectors.sql import Table
from sync_platform.errors import ConfigError, SyncError, TransientError

#: Seconds that making a slot may wait for transactions that are open.
_PATIENCE: Final = 60
_LONGEST_NAME: Final = 63

_SERVER: Final = """
SELECT json_build_object('wal_level', current_setting('wal_level'), 'replica', pg_is_in_recovery(),
  'version', current_setting('server_version_num')::int, 'who', current_user,
  'replicates', (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)
      OR coalesce((SELECT pg_has_role(oid, 'member') FROM pg_roles WHERE rolname = 'rds_replication'), false),
  'creates', has_database_privilege(current_database(), 'CREATE'),
  'slots', current_setting('max_replication_slots')::int,
  'taken', (SELECT coalesce(json_agg(json_build_array(slot_name, active) ORDER BY 1), '[]') FROM pg_replication_slots),
  'publication', (SELECT json_build_object('all', puballtables, 'complete',
          pubinsert AND pubupdate AND pubdelete AND pubtruncate,
          'tables', (SELECT coalesce(json_agg(json_build_array(schemaname, tablename)), '[]')
                     FROM pg_publication_tables t WHERE t.pubname = p.pubname))
      FROM pg_publication p WHERE pubname = {publication}))::text AS told
"""
#: A table and, if it is partitioned, all that it consists of.
_TABLE: Final = """
SELECT json_build_object('kind', c.relkind, 'persistence', c.relpersistence, 'owned', pg_has_role(c.relowner, 'usage'),
  'columns', (SELECT json_agg(json_build_array(attname, atttypid::bigint, atttypmod) ORDER BY attnum) FROM pg_attribute
      WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''),
  'parts', (SELECT json_agg(json_build_object('name', format('%I.%I', n.nspname, r.relname), 'oid', r.oid::bigint,
          'file', pg_relation_filenode(r.oid), 'identity', r.relreplident, 'columns',
          (SELECT json_agg(a.attname) FROM pg_index i
           JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = ANY(i.indkey)
           WHERE i.indrelid = r.oid AND CASE r.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END))
          ORDER BY r.oid)
      FROM (SELECT c.oid WHERE c.relkind <> 'p' UNION
            SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf AND c.relkind = 'p') AS leaf(oid)
      JOIN pg_class r ON r.oid = leaf.oid JOIN pg_namespace n ON n.oid = r.relnamespace))::text AS told
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {schema} AND c.relname = {name}
"""
_PUBLISHED: Final = """
SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_publication p
JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = {name}
"""
_SLOT: Final = """
SELECT to_jsonb(s)::text AS slot, pg_wal_lsn_diff({now}, s.restart_lsn)::bigint AS kept,
       s.database = current_database() AS here, {now}::text AS now,
       (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS megabytes
FROM pg_replication_slots s WHERE s.slot_name = {name}
"""
_NOW: Final = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"
_KINDS: Final = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The names of what the database keeps for us, and how much of its log it may keep.

    `theirs`: the publication is somebody else's and is left as it is.
    """

    slot: str
    publication: str
    theirs: bool
    limit: int | None  # bytes
    drops: bool  # give the slot up beyond the limit

    @classmethod
    def named(cls, name: str, publication: str, limit: int, *, drops: bool) -> Kept:
        """With everything else that follows from the settings."""
        return cls(
            slot=name, publication=publication or name, theirs=bool(publication), limit=limit or None, drops=drops
        )


def name_of(installation: str, connection: str) -> str:
    """The name of the slot and the publication of a connection: no other installation's, and fit for a slot."""
    readable = re.sub(r"[^a-z0-9_]", "_", connection.lower())
    mark = hashlib.sha256(f"{installation}/{connection}".encode()).hexdigest()[:8]
    return f"sync_{readable[: _LONGEST_NAME - 14]}_{mark}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A table with what the catalogue says about following it."""

    table: Table
    kind: str
    columns: tuple[tuple[str, int, int], ...]
    parts: tuple[Mapping[str, Any], ...]

    @property
    def partitioned(self) -> bool:
        """Whether its rows lie in partitions, which come and go without a message."""
        return self.kind == "p"


def looked_at(session: Session, table: Table) -> tuple[Followed, Mapping[str, Any]]:
    """What following a table needs to know, and the catalogue's own words."""
    sql = _TABLE.format(schema=literal(table.schema), name=literal(table.name))
    told = json.loads(session.rows(sql, f"looking at {table}")["told"][0].as_py())
    found = Followed(
        table=table, kind=told["kind"], columns=tuple(tuple(one) for one in told["columns"] or ()),
        parts=tuple(told["parts"] or ()),
    )  # fmt: skip
    return found, told


def problems(server: Server, kept: Kept, tables: Sequence[Table]) -> list[str]:
    """Why these tables cannot be followed, each with its mend."""
    with server.session() as session:
        told = json.loads(
            session.rows(_SERVER.format(publication=literal(kept.publication)), "asking about replication")["told"][
                0
            ].as_py()
        )
        found = _of_server(told, kept, session.place)
        for table in tables:
            found += _of_table(table, *looked_at(session, table), told, kept)
    return found


def _of_server(told: Mapping[str, Any], kept: Kept, place: str) -> list[str]:
    found = []
    if told["replica"]:
        found.append(f"{place} is a read replica: let the connection's url name the primary server")
    elif told["wal_level"] != "logical":
        found.append(
            f"wal_level of {place} is {told['wal_level']}: set wal_level = logical in postgresql.conf and restart it"
        )
    if not told["replicates"]:
        found.append(f'role {told["who"]} may not replicate: ALTER ROLE "{told["who"]}" REPLICATION')
    taken = dict(told["taken"])
    if kept.slot not in taken and len(taken) >= told["slots"]:
        idle = [name for name, active in taken.items() if not active]
        found.append(
            f"all {told['slots']} replication slots of {place} are taken: raise max_replication_slots and restart it"
            + (f", or drop one that nobody uses: {', '.join(idle)}" if idle else "")
        )
    if kept.theirs and told["publication"] is None:
        found.append(f"there is no publication {kept.publication!r}: create it, or leave capture_publication out")
    if kept.theirs and told["publication"] and not told["publication"]["complete"]:
        found.append(
            f"publication {kept.publication!r} does not publish everything: ALTER PUBLICATION"
            f" {identifier(kept.publication)} SET (publish = 'insert, update, delete, truncate')"
        )
    if not kept.theirs and told["publication"] is None and not told["creates"]:
        found.append(
            f"role {told['who']} may not create a publication: GRANT CREATE ON DATABASE to it, or name one that "
            "its owner made in capture_publication"
        )
    return found


def _of_table(
    table: Table, followed: Followed, told: Mapping[str, Any], server: Mapping[str, Any], kept: Kept
) -> list[str]:
    if followed.kind in _KINDS:
        return [f"{table} is {_KINDS[followed.kind]}, and the log tells of tables only: follow the tables it reads"]
    if told["persistence"] != "p":
        return [f"{table} is not written to the log: ALTER TABLE {identifier(table.schema, table.name)} SET LOGGED"]
    if followed.partitioned and server["version"] < 130000:
        return [f"{table} is partitioned, which can be followed from PostgreSQL 13 on"]
    found = []
    for part in followed.parts:
        covered = part["identity"] == "f" or set(table.key) <= set(part["columns"] or ())
        if part["identity"] == "n" or not covered:
            has = {"n": "no replica identity", "i": "the columns of an index as its replica identity"}
            found.append(
                f"{part['name']} has {has.get(part['identity'], 'its primary key as its replica identity')}, which "
                f"does not tell the key ({', '.join(table.key)}) of rows that are deleted: ALTER TABLE {part['name']} "
                "REPLICA IDENTITY USING INDEX with a unique index over it, or REPLICA IDENTITY FULL"
            )
    found += [why for name in table.key if (why := unfollowable(table, table.columns[name])) is not None]
    published = server["publication"] or {"all": False, "tables": []}
    there = published["all"] or [table.schema, table.name] in published["tables"]
    if not there and kept.theirs:
        found.append(
            f"{table} is not in publication {kept.publication!r}: ALTER PUBLICATION {identifier(kept.publication)} "
            f"ADD TABLE {identifier(table.schema, table.name)}"
        )
    elif not there and not told["owned"]:
        found.append(
            f"role {server['who']} does not own {table} and may not publish it: let the owner make a publication and "
            "name it in capture_publication, or GRANT the owner's role"
        )
    return found


def publish(session: Session, kept: Kept, tables: Sequence[Table]) -> None:
    """Makes the publication name exactly these tables, if it is ours."""
    if kept.theirs:
        return
    wanted = {(table.schema, table.name) for table in tables}
    names = ", ".join(identifier(*one) for one in sorted(wanted))
    rows = session.rows(_PUBLISHED.format(name=literal(kept.publication)), "looking at the publication").to_pylist()
    if {(row["schema"], row["name"]) for row in rows} == wanted:
        return
    if published(session, kept):
        session.run(f"ALTER PUBLICATION {identifier(kept.publication)} SET TABLE {names}", "changing the publication")
        return
    partitions = session.rows("SELECT current_setting('server_version_num')::int >= 130000 AS new", "asking")
    rooted = ", publish_via_partition_root = true" if partitions["new"][0].as_py() else ""
    session.run(
        f"CREATE PUBLICATION {identifier(kept.publication)} FOR TABLE {names} "
        f"WITH (publish = 'insert, update, delete, truncate'{rooted})",
        "creating the publication",
    )


def published(session: Session, kept: Kept) -> bool:
    """Whether the publication is there."""
    sql = f"SELECT count(*) AS n FROM pg_publication WHERE pubname = {literal(kept.publication)}"
    return bool(session.rows(sql, "looking for the publication")["n"][0].as_py())


# -- the slot ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Our slot as the server shows it."""

    confirmed: int  # what is before it need not be sent again
    kept: int | None  # bytes of log from the oldest that is still needed
    end: int  # of the log
    lost: str | None  # why the server gave it up
    user: int | None  # the process that reads it
    limit: int | None  # bytes after which the server gives it up


def slot_of(session: Session, kept: Kept) -> Slot | None:
    """The slot, None when there is none; ConfigError when that name is somebody else's."""
    rows = session.rows(_SLOT.format(name=literal(kept.slot), now=_NOW), "looking at the slot").to_pylist()
    if not rows:
        return None
    told: Mapping[str, Any] = json.loads(rows[0]["slot"])
    if told["plugin"] != "pgoutput" or not rows[0]["here"]:
        raise ConfigError(
            f"{session.place}: the slot {kept.slot} belongs to something else ({told['plugin']}, {told['database']})",
            field="capture_name",
            value=kept.slot,
            mend="choose another capture_name",
        )
    lost = told.get("invalidation_reason") or ("its log was removed" if told.get("wal_status") == "lost" else None)
    megabytes = rows[0]["megabytes"]
    return Slot(
        confirmed=lsn(told["confirmed_flush_lsn"] or "0/0"),
        kept=rows[0]["kept"],
        end=lsn(rows[0]["now"]),
        lost=lost,
        user=told["active_pid"],
        limit=None if megabytes is None or megabytes < 0 else megabytes << 20,
    )


def behind_of(slot: Slot, kept: Kept) -> Behind:
    """How much the server keeps for the slot, and after how much it is given up."""
    limits = [one for one in (slot.limit, kept.limit if kept.drops else None) if one is not None]
    return Behind(size=slot.kept, limit=min(limits) if limits else None, warn=kept.limit)


def make_slot(session: Session, kept: Kept) -> int:
    """Makes the slot anew; the position from which on every commit will be told.

    Waits for transactions that are open; TransientError names the oldest when they stay so for a minute.
    """
    drop_slot(session, kept)
    sql = f"SELECT lsn::text AS lsn FROM pg_create_logical_replication_slot({literal(kept.slot)}, 'pgoutput')"
    session.begin(read_only=False)
    try:
        session.run(f"SET LOCAL statement_timeout = '{_PATIENCE}s'", "making the slot")
        made = session.rows(sql, "making the slot")["lsn"][0].as_py()
    except TransientError as error:
        session.rollback()
        raise TransientError(
            f"{error.message}; {waiting_for(session) or 'no transaction is open now'}", mend=error.mend
        ) from None
    session.commit("making the slot")
    return lsn(made)


def drop_slot(session: Session, kept: Kept, patience: float = 0.0) -> None:
    """Drops the slot if it is there; TransientError while a process reads it (for longer than `patience` seconds)."""
    deadline = time.monotonic() + patience
    while (slot := slot_of(session, kept)) is not None:
        if slot.user is None:
            session.run(f"SELECT pg_drop_replication_slot({literal(kept.slot)})", f"dropping the slot {kept.slot}")
        elif time.monotonic() >= deadline:
            raise TransientError(
                f"{session.place}: process {slot.user} of the server sends the slot {kept.slot} to somebody",
                mend="stop that capture first (`sync-platform down`), or end the process with pg_terminate_backend",
            )
        else:
            time.sleep(0.05)


def forget(server: Server, kept: Kept, *, patience: float = 0.0) -> None:
    """Drops slot and publication."""
    with server.session() as session:
        drop_slot(session, kept, patience)
        if not kept.theirs:
            session.run(f"DROP PUBLICATION IF EXISTS {identifier(kept.publication)}", "dropping the publication")


def check_position(session: Session, kept: Kept, since: int) -> None:
    """Raises PositionLostError unless everything committed behind `since` can still be told."""
    place, slot = session.place, slot_of(session, kept)
    if slot is None:
        raise PositionLostError(f"{place}: the replication slot {kept.slot} is gone", mend=_AGAIN)
    if slot.lost is not None:
        raise PositionLostError(
            f"{place}: the server gave up the replication slot {kept.slot} ({slot.lost})",
            mend=_AGAIN + "; raise max_slot_wal_keep_size or keep `capture` running",
        )
    if not published(session, kept):
        raise PositionLostError(f"{place}: the publication {kept.publication} is gone", mend=_AGAIN)
    if slot.confirmed > since:
        raise PositionLostError(
            f"{place}: somebody else read the slot {kept.slot} up to {lsn_text(slot.confirmed)}; "
            f"{lsn_text(since)} is stored",
            mend=_AGAIN,
        )
    if since > slot.end:
        raise PositionLostError(
            f"{place}: its log ends at {lsn_text(slot.end)}, before the stored {lsn_text(since)}: it was restored",
            mend=_AGAIN,
        )


_AGAIN: Final = "capture begins anew, and a full compare finds what was missed"


# -- transactions that are open ------------------------------------------------------------------


def open_until(session: Session) -> int:
    """The first transaction number that was not given yet; `ended_before` it tells when all older ones are over."""
    sql = "SELECT txid_snapshot_xmax(txid_current_snapshot()) AS next"
    return int(session.rows(sql, "looking at transactions")["next"][0].as_py())


def ended_before(session: Session, number: int, seconds: float = 0.0) -> bool:
    """Whether every transaction with an older number has ended, asked again for so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        sql = f"SELECT txid_snapshot_xmin(txid_current_snapshot()) >= {number} AS ended"
        if session.rows(sql, "looking at transactions")["ended"][0].as_py():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def waiting_for(session: Session) -> str | None:
    """The oldest open transaction that wrote something, for people."""
    sql = """SELECT format('process %s has had a transaction open since %s', pid, xact_start) AS told
             FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start LIMIT 1"""
    try:
        rows = session.rows(sql, "looking at transactions").to_pylist()
    except SyncError:
        return None
    return str(rows[0]["told"]) if rows else None


def lsn(text: str) -> int:
    """A position in the log as a number."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def lsn_text(position: int) -> str:
    """A position in the log as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
