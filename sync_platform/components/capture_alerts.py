"""What people hear about the followed logs of databases: one that fills a disk, one that nobody follows any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from sync_platform.components.alerts import OK, Case, Message
from sync_platform.ledger.captures import ALIVE_SECONDS

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database

#: A process that was replaced within this is not worth a message.
BLIP_SECONDS: Final = 60.0
_QUERY: Final = """
    SELECT connection, state, coalesce(reason, ''), behind_bytes, warn_bytes,
           (owner IS NULL OR updated_at < now() - make_interval(secs => %(alive)s))
           AND updated_at < now() - make_interval(secs => %(blip)s)
    FROM sync.captures WHERE connection = ANY(%(names)s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What is so with one followed connection, and the sentence about it."""

    state: str  # ok | over its limit | not followed | refused
    reason: str = ""


def capture_cases(database: Database, specs: Sequence[SyncSpec]) -> Iterator[Case]:
    """One case for every connection that realtime syncs follow. One that only tries again leaves things as told."""
    users: dict[str, list[SyncSpec]] = {}
    for spec in specs:
        if spec.frequency == "realtime":
            ends = (spec.source, spec.target) if spec.two_way is not None else (spec.source,)
            for name in {end.connection for end in ends}:
                users.setdefault(name, []).append(spec)
    told = {"alive": ALIVE_SECONDS, "blip": BLIP_SECONDS, "names": list(users)}
    with database.connection() as connection:
        rows = connection.execute(_QUERY, told).fetchall()
    found = {str(name): _judged(*rest) for name, *rest in rows}
    for name, syncs in users.items():
        one = found.get(name, _Found(state=OK))
        if one is not None:
            yield Case(
                sync="*",
                subject=f"capture {name}",
                state=one.state,
                recipients=tuple(entry for spec in syncs for entry in spec.errors.alert),
                message=partial(_message, name, one, [spec.name for spec in syncs]),
            )


def _judged(state: str, reason: str, behind: int | None, warn: int | None, left: bool) -> _Found | None:
    if left:
        return _Found(state="not followed")
    if state == "refused":
        return _Found(state="refused", reason=reason)
    if behind is not None and warn is not None and behind > warn:
        return _Found(
            state="over its limit",
            reason=f"The database keeps {behind:,} bytes of its log for us, more than {warn:,} (slot_limit_bytes).",
        )
    return _Found(state=OK) if state == "following" else None


def _message(name: str, found: _Found, syncs: list[str]) -> Message:
    follows = "There is no further message until that is over."
    if found.state == "over its limit":
        return Message(
            title=f"the log of {name} is kept beyond its limit",
            happened=f"Changes for {', '.join(syncs)} come in too slowly, and the database's disk may fill.",
            reason=found.reason,
            mend=f"see whether a transaction is open for long at {name}, and how `sync-platform status` goes; "
            f"slot_limit_drops=True, or `sync-platform capture forget {name}`, gives the log up and compares instead",
            follows=follows,
        )
    if found.state == "not followed":
        return Message(
            title=f"nobody follows the log of {name}",
            happened=f"Changes for {', '.join(syncs)} wait, and the database keeps its log for us meanwhile.",
            mend=f"start `sync-platform capture`, or give it up: `sync-platform capture forget {name}`",
            follows=follows,
        )
    if found.state == "refused":
        return Message(
            title=f"the log of {name} cannot be followed",
            happened=f"Changes for {', '.join(syncs)} come by runs only.",
            reason=found.reason,
            mend="`sync-platform check` says what is missing",
            follows=follows,
        )
    return Message(
        title=f"the log of {name} is followed again as it should be",
        happened=f"Changes for {', '.join(syncs)} come in by events.",
    )
