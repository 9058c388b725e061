"""What a dead run of a two-way sync left on either side: intents whose answer nobody heard.

An update is recognised by content: where the record holds what was sent, the write happened and both sides agree, so
that an edit made meanwhile is an edit of one side and no conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from sync_platform.engine.lookups import can_be_looked_up, find_by_match, target_rows
from sync_platform.engine.spec import Side
from sync_platform.engine.twoway.pairing import Pairing
from sync_platform.engine.twoway.settling import settle_side
from sync_platform.engine.twoway.terms import pairing_of
from sync_platform.engine.twoway.values import told
from sync_platform.ledger.intents import open_intents
from sync_platform.ledger.settle import settled_frame
from sync_platform.ledger.workers import workers
from sync_platform.model import Op, Status
from sync_platform.state.locks import advisory_lock

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

Intent = Mapping[str, Any]


def recover_both(
    session: Session, spec: SyncSpec, *, keys: Sequence[str] | None, sleep: Callable[[float], None]
) -> int:
    """Settles the intents of dead runs on both sides (see `engine.recover`); how many there were."""
    if keys is not None:
        with session.database.connection() as connection:
            return _recover(session, spec, open_intents(connection, spec.name, keys=keys), sleep)
    if not _left_by_the_dead(session, spec):  # nothing to lock for
        return 0
    with advisory_lock(session.database, f"recover:{spec.name}"):
        return _recover(session, spec, _left_by_the_dead(session, spec), sleep)


def _left_by_the_dead(session: Session, spec: SyncSpec) -> Sequence[Intent]:
    alive, _ = workers(session.database)
    with session.database.connection() as connection:
        return open_intents(connection, spec.name, alive=alive)


def _recover(session: Session, spec: SyncSpec, intents: Sequence[Intent], sleep: Callable[[float], None]) -> int:
    if not intents:
        return 0
    pairing = pairing_of(session, spec)
    sides: tuple[tuple[Side, SyncSpec], ...] = (("target", spec), ("source", pairing.reversed))
    for side, written in sides:
        mine = [one for one in intents if (one["target_connection"], one["target_object"])
                == (written.target.connection, written.target.object)]  # fmt: skip
        if mine:
            _recover_side(session, spec, written, side, pairing, mine, sleep)
    return len(intents)


def _recover_side(
    session: Session,
    spec: SyncSpec,
    written: SyncSpec,
    side: Side,
    pairing: Pairing,
    intents: Sequence[Intent],
    sleep: Callable[[float], None],
) -> None:
    creates = [one for one in intents if one["op"] == Op.CREATE]
    updates = [one for one in intents if one["op"] != Op.CREATE]
    done = _creates(session, written, side, creates, sleep) + _updates(session, written, side, pairing, updates)
    happened = sum(row["status"] == Status.APPLIED for row, _ in done)
    session.say(
        f"{spec.name}: {len(intents)} writes of a dead run to {written.target} had no answer; {happened} did happen"
    )
    groups: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for row, planned in done:
        groups.setdefault(row.pop("plan_id"), []).append((row, planned))
    with session.database.connection() as connection:
        for plan_id, group in groups.items():
            settled = settled_frame([row for row, _ in group if row["status"] is not None])
            rows = {planned["_key"]: planned for _, planned in group}
            settle_side(connection, spec, side, settled, rows, run_id=session.run_id, plan_id=plan_id)
        connection.execute("DELETE FROM sync.intents WHERE token = ANY(%s)", ([one["token"] for one in intents],))
        absent = [planned["_key"] for row, planned in done if row["status"] is None]
        connection.execute(
            "DELETE FROM sync.held WHERE sync = %s AND kind = 'unknown' AND source_key = ANY(%s)", (spec.name, absent)
        )


def _creates(
    session: Session, written: SyncSpec, side: Side, intents: Sequence[Intent], sleep: Callable[[float], None]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    if not intents:
        return []
    connector = session.connector(written.target.connection)
    stream = connector.stream(written.target.object)
    visible = [one for one in intents if can_be_looked_up(stream, written.match, one["match"])]
    found: dict[str, list[str]] = {}
    if visible:
        sleep(stream.lookup_lag.total_seconds())
        rows = [{"_key": one["token"], **{f"new:{n}": one["match"].get(n) for n in written.match}} for one in visible]
        found = find_by_match(connector, stream, written.match, rows, written.match)
    done = []
    for intent in intents:
        ids = found.get(intent["token"], [])
        status: str | None = None
        reason = None
        if intent not in visible:
            status, reason = str(Status.UNKNOWN), "a run died before it heard whether this create happened"
        elif len(ids) == 1:
            status, reason = str(Status.APPLIED), "confirmed by look-up after a run died"
        elif ids:
            status, reason = str(Status.HELD), f"several records match: {', '.join(ids)}"
        done.append(_row(intent, ids[0] if len(ids) == 1 else None, status, reason, side))
    return done


def _updates(
    session: Session, written: SyncSpec, side: Side, pairing: Pairing, intents: Sequence[Intent]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    if not intents:
        return []
    connector = session.connector(written.target.connection)
    stream = connector.stream(written.target.object)
    names = pairing.forward.fields if side == "target" else pairing.back.fields
    current = target_rows(connector, stream, [one["target_id"] for one in intents], names)
    now = {row["_target_id"]: row for row in current.iter_rows(named=True)}
    done = []
    for intent in intents:
        held = now.get(intent["target_id"], {})
        sent = intent["fields"]["_sent"]
        there = {
            name for name, value in sent.items()
            if name in held and told(held[name], empty_is_null=stream.empty_is_null) == value
        }  # fmt: skip
        row, planned = _row(intent, intent["target_id"], None, None, side)
        if there:
            row |= {"status": str(Status.APPLIED), "reason": "found written after a run died"}
            planned["_bases"] = _only(planned["_bases"], side, pairing, {name for name in sent if name not in there})
        done.append((row, planned))
    return done


def _only(bases: str | None, side: Side, pairing: Pairing, missing: set[str]) -> str | None:
    """The bases without the pairs of fields that do not hold what was sent."""
    if bases is None or not missing:
        return bases
    read = orjson.loads(bases)
    for pair in pairing.pairs:
        mine = pair.targets if side == "target" else pair.sources
        if missing & set(mine):
            for name in (*pair.reads_source, *pair.sources):
                read["source"].pop(name, None)
            for name in (*pair.reads_target, *pair.targets):
                read["target"].pop(name, None)
            read["pairs"] = [name for name in read["pairs"] if name != pair.name]
    return orjson.dumps(read).decode()


def _row(
    intent: Intent, target_id: str | None, status: str | None, reason: str | None, side: Side
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A settled row and the planned row it settles."""
    told_fields = intent["fields"]
    planned = {
        "_key": intent["source_key"], "_op": intent["op"], "_side": side, "_fields": [],
        "_bases": told_fields.get("_bases"), "_partner": told_fields.get("_partner"),
        "_replaces": told_fields.get("_replaces"),
    }  # fmt: skip
    row = {
        "plan_id": intent["plan_id"], "source_key": intent["source_key"], "target_id": target_id, "op": intent["op"],
        "status": status, "fields": orjson.dumps(told_fields["fields"]).decode(), "reason": reason,
        "token": intent["token"], "base": told_fields["base"], "version_cursor": told_fields["version_cursor"],
        "version_read_at": told_fields["version_read_at"],
    }  # fmt: skip
    return row, planned
