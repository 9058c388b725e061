"""`trace`: the story of one event, from its receipt to what every sync did with it."""

from __future__ import annotations

from typing import Any, Final, LiteralString

from sync_platform.errors import ConfigError
from sync_platform.state.database import Connection, open_state

# An id as the vendor shows it may be the first part of ours (HubSpot repeats its eventId for several events).
_EVENTS: Final[LiteralString] = """
SELECT seq, connection, event_id, stream, key, kind, occurred_at, received_at, fields FROM sync.inbox
WHERE event_id = %(id)s OR starts_with(event_id, %(id)s || ':') ORDER BY seq LIMIT 100
"""
_QUEUED: Final[LiteralString] = """
SELECT sync, state, attempts, not_before, owner IS NOT NULL AS claimed, plan_id, outcome, reason, finished_at
FROM sync.queue WHERE seq = %s ORDER BY sync
"""
_OUTCOMES: Final[LiteralString] = """
SELECT time, op, status, target_id, fields, reason, resolution, run_id, request_id FROM sync.outcomes
WHERE sync = %s AND source_key = %s AND plan_id = %s ORDER BY id
"""


def trace_event(event_id: str) -> dict[str, Any]:
    """The events of that id, each with its queue rows and their outcomes; ConfigError when there is none."""
    with open_state().connection() as connection:
        events = _rows(connection, _EVENTS, {"id": event_id})
        for event in events:
            seq = event.pop("seq")
            event["syncs"] = _rows(connection, _QUEUED, (seq,))
            for queued in event["syncs"]:
                wanted = (queued["sync"], event["key"], queued["plan_id"])
                queued["outcomes"] = _rows(connection, _OUTCOMES, wanted) if queued["plan_id"] else []
    if not events:
        raise ConfigError(
            f"no event {event_id!r} was ever stored",
            field="EVENT_ID",
            value=event_id,
            mend='look for it: sync-platform sql "SELECT event_id, key, received_at FROM sync.events"',
        )
    return {"event_id": event_id, "events": events}


def _rows(connection: Connection, query: LiteralString, parameters: Any) -> list[dict[str, Any]]:
    done = connection.execute(query, parameters)
    names = [column.name for column in done.description or ()]
    return [dict(zip(names, row, strict=True)) for row in done.fetchall()]


def show_trace(document: dict[str, Any]) -> None:
    """Prints the story for people: one line per thing that happened, with the time since the receipt."""
    for event in document["events"]:
        print(f"{event['connection']}/{event['stream']} {event['key']}: {event['kind']}, event {event['event_id']}")
        for moment, text in story(event):
            after = "" if moment is None else f"{(moment - event['received_at']).total_seconds():+.3f} s"
            print(f"  {after:>14}  {text}")


def story(event: dict[str, Any]) -> list[tuple[Any, str]]:
    """(time or None, sentence) of all that happened to an event, in order."""
    told = [
        (event["occurred_at"], "happened at the source"),
        (event["received_at"], "received, proved to be the vendor's, stored"),
    ]
    if not event["syncs"]:
        told.append((None, "queued for no sync: none in real time reads this object"))
    for queued in event["syncs"]:
        told.append((None, f"queued for {queued['sync']}"))
        for one in queued["outcomes"]:
            what = f"{queued['sync']}: {one['op']} {one['target_id'] or ''} {one['status']}".replace("  ", " ")
            told.append((one["time"], what + (f": {one['reason']}" if one["reason"] else "")))
        told.append((queued["finished_at"], f"{queued['sync']}: {_state(queued)}"))
    return told


def _state(queued: dict[str, Any]) -> str:
    tries = f", {queued['attempts']} tries" if queued["attempts"] > 1 else ""
    why = f": {queued['reason']}" if queued["reason"] else ""
    if queued["state"] == "done":
        return f"done ({queued['outcome']}{tries}){why}" if queued["outcome"] else f"done{tries}{why}"
    if queued["state"] == "dead":
        return f"set aside as a dead letter{tries}{why}"
    return ("a worker has it" if queued["claimed"] else "waits for a worker") + tries + why
