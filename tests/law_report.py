"""A pytest plugin: prints the table law x stream x cases at the end of a run, also of a parallel one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.law_table import CASES, lines


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Adds what a worker's laws met."""
    for law, stream, cases in getattr(node, "workeroutput", {}).get("laws", []):
        CASES[law, stream] += cases


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker: hands the counts to the main process."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["laws"] = [[law, stream, cases] for (law, stream), cases in CASES.items()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the table."""
    if not CASES:
        return
    terminalreporter.section("laws: cases met by stream")
    for line in lines():
        terminalreporter.write_line(line)
