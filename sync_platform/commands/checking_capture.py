"""What `check` and `doctor` say about following databases' logs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from sync_platform.connectors.capture import Captures, TellsKept, captures
from sync_platform.errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sync_platform.ledger.captures import Standing
    from sync_platform.project import DeclaredSync, Project
    from sync_platform.session import Session

Look = tuple[str, "Callable[[], str]"]


def check_capture(session: Session, declared: DeclaredSync) -> Iterator[dict[str, Any]]:
    """Why the streams of a realtime sync cannot be followed, where their connection is to be followed."""
    spec = declared.spec
    if spec.frequency != "realtime":
        return
    ends = [("source", spec.source), *([("target", spec.target)] if spec.two_way is not None else [])]
    for side, end in ends:
        connector = session.connector(end.connection)
        if not captures(connector):
            continue
        assert isinstance(connector, Captures)
        for problem in connector.capture_problems([end.object]):
            what, _, mend = problem.partition(": ")
            yield {
                "file": declared.place.file,
                "line": declared.place.line(f"attributes.{side}.connection"),
                "field": "capture",
                "value": str(end),
                "message": what,
                "mend": mend or None,
            }


def deletion_notes(session: Session, declared: DeclaredSync) -> Iterator[str]:
    """Where a sync acts on deletions that its reads cannot see: rows that are read by a cursor leave no trace."""
    from sync_platform.model import Deletes

    spec = declared.spec
    ends = []
    if spec.two_way is None:
        ends = [spec.source] if spec.mode == "mirror" else []
    else:
        rules = ((spec.source, spec.two_way.deleted_at_source), (spec.target, spec.two_way.deleted_at_target))
        ends = [end for end, rule in rules if rule != "ignore"]
    for end in ends:
        connector = session.connector(end.connection)
        stream = connector.stream(end.object)
        followed = spec.frequency == "realtime" and captures(connector)
        read_whole = session.project.stream_options(end).full_read is not None
        if stream.deletes is Deletes.ABSENCE and stream.cursor is not None and not (read_whole or followed):
            yield (
                f"{spec.name}: deletions at {end} are not seen, its rows are read by {stream.cursor.field}; follow its "
                "log (capture=True, frequency: realtime), name a tombstone column, or let its Source read it whole now "
                "and then (full_read: '0 3 * * *') or always (cursor: '')"
            )


def capture_looks(project: Project) -> list[Look]:
    """One look for every connection that is followed, is to be, or was."""
    from sync_platform.ledger.captures import standings
    from sync_platform.state.database import open_state

    known = standings(open_state())
    wanted = {name for name, one in project.connectors.items() if captures(one)}
    return [
        (f"capture {name}", partial(_look, project, name, known.get(name), name in wanted))
        for name in sorted(wanted | known.keys())
    ]


def _look(project: Project, name: str, standing: Standing | None, wanted: bool) -> str:
    from sync_platform.session import Session

    if name not in project.connectors:
        raise AccessError(
            f"{name} was followed until {_day(standing)} and is gone from resources/: its database may keep its log",
            mend=f"write the connection again and run `sync-platform capture forget {name}`",
        )
    with Session.open(project) as session:
        connector = session.connector(name)
        kept = connector.kept() if isinstance(connector, TellsKept) else None
    size = f"; the database keeps {kept.size:,} bytes of its log for us" if kept is not None and kept.size else ""
    if not wanted:
        raise AccessError(
            f"its capture is off, but it was followed until {_day(standing)}{size}",
            mend=f"run `sync-platform capture forget {name}`",
        )
    if kept is not None and kept.warn is not None and kept.size is not None and kept.size > kept.warn:
        raise AccessError(
            f"the database keeps {kept.size:,} bytes of its log for us, more than {kept.warn:,}",
            mend=f"keep `sync-platform capture` running, or run `sync-platform capture forget {name}`",
        )
    if standing is None:
        return "not followed yet: no `sync-platform capture` has run"
    if not standing.alive:
        raise AccessError(
            f"nobody follows it since {_day(standing)}{size}",
            mend=f"start `sync-platform capture`, or run `sync-platform capture forget {name}`",
        )
    if standing.state != "following":
        raise AccessError(standing.reason or standing.state, mend="see the log of `sync-platform capture`")
    return f"following {', '.join(standing.streams)}; {standing.stored:,} events{size}"


def _day(standing: Standing | None) -> str:
    told = standing.told_at if standing is not None else None
    return told.strftime("%Y-%m-%d %H:%M:%SZ") if told is not None else "its first change"
