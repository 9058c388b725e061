"""`plan`, `apply` and `run`."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sync_platform.commands.running import execute, own_process_group
from sync_platform.errors import AccessError, SyncError
from sync_platform.run_tags import EVERY_RECORD, EXACT, FULL, PLAN_ID

if TYPE_CHECKING:
    from sync_platform.commands.output import Output
    from sync_platform.commands.plan_file import PlanDocument
    from sync_platform.project import Project

MOST_SHOWN = 50


def show_plan(project: Project, sync: str, output: Output, *, out: Path | None, full: bool) -> None:
    """Loads, maps and plans a sync, stopping before delivery; shows the plan and writes it to `out`."""
    from sync_platform.commands.plan_file import PlanDocument
    from sync_platform.session import Session

    plan_id = make_plan_of(project, sync, full=full)
    with Session.open(project) as session, contextlib.ExitStack() as stack:
        document = PlanDocument(session, project.sync(sync).spec, plan_id)
        places: list[BinaryIO] = [stack.enter_context(_made(out))] if out is not None else []
        if output.json:
            places.append(sys.stdout.buffer)
        else:
            _print_plan(document)
        if places:
            document.write(*places)
    if out is not None and not output.json:
        print(f"written to {out}; apply it with: sync-platform apply {out}")


@contextlib.contextmanager
def _made(path: Path) -> Iterator[BinaryIO]:
    """A file that stands at its place when it is whole; what is no file (/dev/stdout) is written into."""
    plain = path.is_file() or not path.exists()
    part = path.with_name(f".{path.name}.part") if plain else path
    try:
        with part.open("wb") as file:
            yield file
        if plain:
            part.replace(path)
    except OSError as error:
        raise AccessError(f"{path} cannot be written: {error.strerror}", mend="choose another --out") from error
    finally:
        if plain:
            part.unlink(missing_ok=True)


def make_plan_of(project: Project, sync: str, *, full: bool = False) -> str:
    """Loads, maps and plans a sync through its Dagster job; the new plan's id.

    `full`: the sources are read completely and every record is planned, not only what the read found changed.
    """
    from sync_platform.ledger.plans import latest_plan
    from sync_platform.state.database import open_state

    finished = execute(project, sync, steps=("desired", "plan"), tags={FULL: EVERY_RECORD} if full else {})
    if finished.error:
        raise finished.error
    with open_state().connection() as connection:
        made = latest_plan(connection, sync)
    if made is None:
        raise SyncError(f"the run {finished.run_id} left no plan", mend="see the run in the UI")
    return made.plan_id


def apply_file(project: Project, path: Path) -> dict[str, Any]:
    """Delivers the plan of a file; returns the report. Raises ConfigError for an altered file."""
    from sync_platform.commands.plan_file import read_plan_file, refuse_foreign
    from sync_platform.ledger.plans import load_plan
    from sync_platform.state.database import open_state

    database = open_state()
    document = read_plan_file(path, database.home.lake)
    with database.connection() as connection:
        plan = load_plan(connection, document["plan_id"])
    refuse_foreign(document, plan, path)
    own_process_group()
    return _report(
        execute(project, plan.sync, steps=("delivered",), tags={PLAN_ID: plan.plan_id, EXACT: "yes"}), plan.sync
    )


def run_sync(project: Project, sync: str, *, full: bool = False) -> dict[str, Any]:
    """Runs the sync's whole job; returns the report.

    `full`: the sources are read completely, so that changes and deletions that left no trace are found, too.
    """
    own_process_group()
    return _report(execute(project, sync, tags={FULL: "yes"} if full else {}), sync)


def _report(finished: Any, sync: str) -> dict[str, Any]:
    from sync_platform.ledger.runs import last_report
    from sync_platform.state.database import open_state

    if finished.error:
        raise finished.error
    with open_state().connection() as connection:
        report = last_report(connection, sync, finished.run_id)
    if report is None:
        raise SyncError(f"run {finished.run_id} left no report", mend="see the run in the UI")
    return report


def exit_code_of(report: dict[str, Any]) -> int:
    """0 done; 4 when creates wait for the first match plan; 1 with failed, held or refused records."""
    summary = report["sync_summary"]
    if report.get("first_sync_held"):
        return 4
    return 1 if summary["failed_transfers"] or summary["held"] or report["refused"] else 0


def _print_plan(document: PlanDocument) -> None:
    """Prints a plan for people: counts, then the first changes field by field."""
    from rich.console import Console

    console, head = Console(), document.head
    counts = ", ".join(f"{number} {op}" for op, number in head["summary"].items() if number) or "nothing"
    console.print(f"[bold]{head['sync']}[/bold]: {counts} (compared by {head['compare']})")
    for side, text in head["pushdown"].items():
        if text:
            console.print(f"  filter, {side}: {text}", style="dim", markup=False)
    if head["blocked"]:
        console.print(f"blocked: {head['blocked']}", style="red")
    for change in itertools.islice(document.changes(), MOST_SHOWN):
        console.print(
            f"{change['op']:>8} {change['key']} -> {change['target_id'] or 'new'}  {change['reason'] or ''}",
            markup=False,
        )
        for field in change["fields"]:
            console.print(f"           {field['name']}: {field['old']!r} -> {field['new']!r}", markup=False)
    more = document.total - MOST_SHOWN
    if more > 0:
        console.print(f"... and {more} more (write them all with --out FILE)")
