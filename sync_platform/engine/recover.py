"""What a dead run left: intents whose answer nobody heard. Each is looked up before anything is repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from sync_platform.engine.lookups import can_be_looked_up, find_by_match
from sync_platform.ledger.intents import any_intents, open_intents
from sync_platform.ledger.settle import settle, settled_frame
from sync_platform.ledger.workers import workers
from sync_platform.model import Status
from sync_platform.state.locks import advisory_lock

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session


def recover(
    session: Session,
    spec: SyncSpec,
    *,
    keys: Sequence[str] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Settles the intents of dead runs: found in the target = created by us, linked; absent = never happened.

    With `keys`, only those of records that the caller has claimed; else all but those of records
    that a living worker works on. Returns how many intents were settled. A target whose records can't be looked up
    leaves them held for a person.
    """
    if spec.two_way is not None:
        from sync_platform.engine.twoway.recovering import recover_both

        return recover_both(session, spec, keys=keys, sleep=sleep)
    if keys is not None:
        with session.database.connection() as connection:
            intents = open_intents(connection, spec.name, keys=keys)
        return _recover(session, spec, intents, sleep)
    if not any_intents(session.database, spec.name):
        return 0  # the usual case, which need not wait for its turn: what others are settling is there until it is
    with advisory_lock(session.database, f"recover:{spec.name}"):
        alive, _ = workers(session.database)
        with session.database.connection() as connection:
            intents = open_intents(connection, spec.name, alive=alive)
        return _recover(session, spec, intents, sleep)


def _recover(session: Session, spec: SyncSpec, intents: list[dict[str, Any]], sleep: Callable[[float], None]) -> int:
    if not intents:
        return 0
    connector = session.connector(spec.target.connection)
    stream = connector.stream(spec.target.object)
    visible = [one for one in intents if can_be_looked_up(stream, spec.match, one["match"])]
    found: dict[str, list[str]] = {}
    if visible:
        # An intent is older than its request, which may have left the moment its process died: the whole lag, from now.
        sleep(stream.lookup_lag.total_seconds())
        rows = [{"_key": one["token"], **{f"new:{n}": one["match"].get(n) for n in spec.match}} for one in visible]
        found = find_by_match(connector, stream, spec.match, rows, spec.match)
    session.say(f"{spec.name}: {len(intents)} creates of a dead run had no answer; {len(found)} did happen")
    settled: dict[str, list[dict[str, Any]]] = {}
    for intent in intents:
        row = _settled(intent, found.get(intent["token"], []), blind=intent not in visible)
        settled.setdefault(intent["plan_id"], []).append(row)
    with session.database.connection() as connection:
        for plan_id, group in settled.items():
            done = [row for row in group if row["status"] is not None]
            settle(connection, spec, settled_frame(done), run_id=session.run_id, plan_id=plan_id)
        connection.execute("DELETE FROM sync.intents WHERE token = ANY(%s)", ([i["token"] for i in intents],))
        absent = [row["source_key"] for group in settled.values() for row in group if row["status"] is None]
        connection.execute(
            "DELETE FROM sync.held WHERE sync = %s AND kind = 'unknown' AND source_key = ANY(%s)", (spec.name, absent)
        )
    return len(intents)


def _settled(intent: dict[str, Any], ids: list[str], *, blind: bool) -> dict[str, Any]:
    told = intent["fields"]
    status: str | None = None
    reason = None
    if blind:
        status, reason = str(Status.UNKNOWN), "a run died before it heard whether this create happened"
    elif len(ids) == 1:
        status, reason = str(Status.APPLIED), "confirmed by look-up after a run died"
    elif ids:
        status, reason = str(Status.HELD), f"several target records match: {', '.join(ids)}"
    return {
        "source_key": intent["source_key"],
        "target_id": ids[0] if len(ids) == 1 else None,
        "op": intent["op"],
        "status": status,
        "fields": orjson.dumps(told["fields"]).decode(),
        "reason": reason,
        "token": intent["token"],
        "base": told["base"],
        "version_cursor": told["version_cursor"],
        "version_read_at": told["version_read_at"],
    }
