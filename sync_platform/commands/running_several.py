"""`run` with several syncs: those into tables that others refer to go first, and what waited is tried again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from sync_platform.commands.planning import exit_code_of, run_sync
from sync_platform.connectors.relations import Related

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.project import Project
    from sync_platform.session import Session


def run_several(project: Project, names: Sequence[str], *, full: bool = False) -> dict[str, Any]:
    """Runs syncs one after the other, parents before children: `{"order": [...], "reports": [...]}`.

    What still waits afterwards is tried again from the last to the first, so that children are deleted before their
    parents, until nothing more comes of it; a sync then has several reports. The first error ends it. `full` as for
    `run_sync`.
    """
    from sync_platform.session import Session
    from sync_platform.state.database import open_state

    specs = {name: project.sync(name).spec for name in names}
    with Session.open(project) as session:
        order = ordered(list(specs), references(session, specs))
    reports = [run_sync(project, name, full=full) for name in order]
    waiting: dict[str, int] | None = None
    while True:
        with open_state().connection() as connection:
            rows = connection.execute(
                "SELECT sync, count(*) FROM sync.dead_letters WHERE sync = ANY(%s) AND state = 'retry' GROUP BY sync",
                (order,),
            ).fetchall()
        before, waiting = waiting, dict(rows)
        if not waiting or waiting == before:
            return {"order": [report["sync"] for report in reports], "reports": reports}
        reports += [run_sync(project, name) for name in reversed(order) if name in waiting]


def references(session: Session, specs: Mapping[str, SyncSpec]) -> dict[str, list[str]]:
    """For each sync those that write what its target's records refer to."""
    found: dict[str, list[str]] = {name: [] for name in specs}
    writers: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, spec in specs.items():
        writers[spec.target.connection][spec.target.object].append(name)
    for connection, objects in writers.items():
        connector = session.connector(connection)
        if not isinstance(connector, Related):
            continue
        for place, syncs in objects.items():
            parents = [writer for other in connector.refers_to(place, list(objects)) for writer in objects[other]]
            found |= {name: parents for name in syncs if parents}
    return found


def ordered(names: Sequence[str], parents: Mapping[str, Sequence[str]]) -> list[str]:
    """The names, those they refer to first, otherwise as given; a cycle is cut where it is met."""
    wanted = {name: dict.fromkeys(parents.get(name, ())) for name in names}
    while True:
        try:
            placed = list(TopologicalSorter({name: list(before) for name, before in wanted.items()}).static_order())
        except CycleError as cycle:
            one, other = cycle.args[1][0], cycle.args[1][1]
            wanted[other].pop(one, None)
            continue
        rank = {name: place for place, name in enumerate(names)}
        depth: dict[str, int] = {}
        for name in placed:
            depth[name] = 1 + max((depth[parent] for parent in wanted[name]), default=-1)
        return sorted(names, key=lambda name: (depth[name], rank[name]))


def exit_code_of_all(done: Mapping[str, Any]) -> int:
    """The worst of the exit codes of each sync's last report."""
    last = {report["sync"]: report for report in done["reports"]}
    return max(exit_code_of(report) for report in last.values())


def show_reports(done: Mapping[str, Any]) -> None:
    """Prints the reports in the order of their runs."""
    from sync_platform.commands.report_page import show_report

    for report in done["reports"]:
        show_report(report)
