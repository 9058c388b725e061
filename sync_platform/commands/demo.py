"""`demo`: the main job on a laptop with no account, and the proof that its report tells the truth."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sync_platform.commands.output import Output
from sync_platform.errors import BlockedError, SyncError
from sync_platform.home import Home

if TYPE_CHECKING:
    from sync_platform.project import Project

SYNC = "salesforce_leads_to_hubspot_contacts"
WRITES = ("create", "update", "delete")


def run_demo(output: Output, project: Project, *, leads: int, missing_email: int, duplicates: int) -> None:
    """Seeds the sandbox, runs the reference sync twice, compares; raises SyncError if anything disagrees."""
    from sync_platform.sandbox.server import SandboxProcess, env_lines

    home = Home.current().root / "demo"
    fresh(home)
    output.say(f"demo: state in {home}")
    try:
        with SandboxProcess() as sandbox:
            variables = dict(line.split("=", 1) for line in env_lines(sandbox.port))
            environment = {**os.environ, **variables, "SYNC_HOME": str(home), "SYNC_PROJECT": str(project.root)}
            control = sandbox.control
            output.say(f"demo: sandbox at {sandbox.url}, {leads} leads, {duplicates} duplicates")
            options: dict[str, Any] = {"missing": {"Email": missing_email}, "duplicates": duplicates}
            control.post("seed", {"system": "salesforce", "stream": "Lead", "count": leads, "options": options})
            output.say("demo: first run ...")
            first = run_once(environment, SYNC)
            mark = _last_seq(control)
            output.say("demo: second run ...")
            second = run_once(environment, SYNC)
            disagreements = _compare(control, first, second, mark, leads, missing_email, duplicates)
            violations = control.get("violations")["violations"]
        document = {"first": first, "second": second, "disagreements": disagreements, "violations": violations}
        output.show(document, lambda: _show(document))
        if disagreements or violations:
            raise SyncError(
                "the demo's report and the target disagree: " + "; ".join(map(str, disagreements + violations))
            )
    finally:
        stop_state(home)


def fresh(home: Path) -> None:
    """Deletes what an earlier demo left in a home."""
    from sync_platform.state import server

    if home.exists():
        server.destroy(Home(home))  # as root the cluster may lie elsewhere
    shutil.rmtree(home, ignore_errors=True)


def stop_state(home: Path) -> None:
    """Stops a demo's state."""
    from sync_platform.state import server

    if home.exists():
        server.stop(Home(home))


def run_once(environment: Mapping[str, str], sync: str) -> dict[str, Any]:
    """The report of one `sync-platform run --json`; 0 and 1 are both finished runs."""
    command = [sys.executable, "-m", "sync_platform.cli", "run", sync, "--json"]
    done = subprocess.run(command, env=dict(environment), stdout=subprocess.PIPE, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise SyncError(f"`run` printed no report (exit {done.returncode})") from None
    if done.returncode not in (0, 1):
        told = f"`run` ended with {done.returncode}: {answer['error']['message']}"
        kind = BlockedError if done.returncode == BlockedError.exit_code else SyncError
        raise kind(told, mend=answer["error"]["mend"])
    report: dict[str, Any] = answer
    return report


def _last_seq(control: Any) -> int:
    requests = control.get("log")["requests"]
    return int(requests[-1]["seq"]) if requests else 0


def _compare(
    control: Any,
    first: dict[str, Any],
    second: dict[str, Any],
    mark: int,
    leads: int,
    missing_email: int,
    duplicates: int,
) -> list[str]:
    """Sentences about every number that is not what the seed and the target say."""
    contacts = control.get("records/hubspot/contacts")["records"]
    emails = {record["fields"].get("email") for record in contacts}
    rewritten = [
        effect
        for request in control.get(f"log?since={mark}")["requests"]
        for effect in request["records"]
        if effect["applied"] and effect["op"] in WRITES
    ]
    summary = first["sync_summary"]
    expected = {
        "records processed": (summary["records_processed"], leads),
        "transferred": (summary["successful_transfers"], leads - missing_email),
        "failed": (summary["failed_transfers"], missing_email),
        "duplicates skipped": (summary["duplicates_skipped"], duplicates),
        "contacts in HubSpot": (len(contacts), leads - missing_email),
        "distinct e-mails in HubSpot": (len(emails), leads - missing_email),
        "created according to the report": (summary["created"], len(contacts)),
        "records processed by the second run": (second["sync_summary"]["records_processed"], 0),
        "writes of the second run": (len(rewritten), 0),
    }
    return [f"{name}: {got}, expected {wanted}" for name, (got, wanted) in expected.items() if got != wanted]


def _show(document: dict[str, Any]) -> None:
    from rich.console import Console

    from sync_platform.commands.report_page import show_report

    console = Console()
    show_report(document["first"])
    summary = document["first"]["sync_summary"]
    again = document["second"]["sync_summary"]
    console.print(f"\nRe-read from HubSpot: {summary['successful_transfers']} contacts, each e-mail once.")
    console.print(f"Second run: {again['records_processed']} processed, nothing written.")
    if not document["disagreements"]:
        console.print("[green]The report and the target agree.[/green]")
        console.print("\nNext: `make up` opens the UI at http://127.0.0.1:3000; README shows your own first sync.")
