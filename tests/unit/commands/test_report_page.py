"""What a person sees of a report and of a run's progress."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sync_platform.commands.report_page import print_report

DOCS = Path(__file__).resolve().parents[3] / "docs" / "interfaces.md"


def documented_report(**summary: Any) -> dict[str, Any]:
    """The report of docs/interfaces.md, with other numbers."""
    report: dict[str, Any] = json.loads(re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)[0])
    report["sync_summary"].update(summary)
    return report


def page(report: dict[str, Any], width: int) -> str:
    """The report as a terminal of that width shows it, without colours."""
    out = io.StringIO()
    print_report(report, Console(file=out, width=width, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("width", [50, 80, 200])
def test_nothing_is_cut_off(width: int) -> None:
    report = documented_report(records_processed=1_234_567, created=1_234_565, successful_transfers=1_234_565)
    report["errors"] = [
        {"key": f"00Q5g00000AbC{n:02}", "field": "email", "reason": "not an e-mail " * 9, "resolution": "correct it"}
        for n in range(3)
    ]
    shown = page(report, width)
    assert "…" not in shown
    assert max(len(line) for line in shown.splitlines()) <= width
    flat = " ".join(shown.split())
    for text in (
        "1,234,567",
        "1,234,565 of 1,234,567",
        "98.0%",
        "2024-01-15T15:30:00Z",
        "found 'B'",
        "mend: correct it",
    ):
        assert text in flat or text.replace(" ", "") in flat.replace(" ", ""), text
    assert shown.count("not an e-mail") >= 3
    for n in range(3):
        assert f"00Q5g00000AbC{n:02}" in flat


def test_a_run_with_nothing_new_says_so_and_lists_no_errors() -> None:
    report = documented_report(records_processed=0, failed_transfers=0, successful_transfers=0)
    report |= {"errors": [], "refused": []}
    shown = page(report, 80)
    assert "nothing new" in shown
    assert "Failed" not in shown
    assert "Refused" not in shown


def test_many_errors_are_counted_and_the_rest_is_pointed_at() -> None:
    report = documented_report()
    report["errors"] = [
        {"key": f"key{n}", "field": None, "reason": "it is odd", "resolution": "mend it"} for n in range(33)
    ]
    shown = page(report, 80)
    assert "Failed (33)" in shown
    assert "... and 13 more: sync-platform dead list" in shown
    assert shown.count("mend it") == 1


def test_creates_that_wait_are_told_with_what_to_do() -> None:
    report = documented_report()
    report["first_sync_held"] = 7
    assert "7 creates wait" in page(report, 80)
    assert "first_sync: create" in " ".join(page(report, 80).split())


SCRIPT = """
from sync_platform.commands.progress import Progress
with Progress() as progress:
    progress.say("another run is working")
    progress.step("salesforce/Lead: 1,200 read, [3] changed")
print("done")
"""


def test_without_a_terminal_only_what_one_must_know_is_on_stderr() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("done\n", "another run is working\n")


def test_at_a_terminal_the_step_is_shown_and_stdout_stays_clean() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
        text=True,
        check=True,
        timeout=60,
    )
    os.close(theirs)
    told = b""
    while chunk := _read(ours):
        told += chunk
    os.close(ours)
    assert done.stdout == "done\n"
    assert b"another run is working" in told
    assert b"salesforce/Lead: 1,200 read, [3] changed" in told


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except OSError:  # the other end is closed
        return b""
