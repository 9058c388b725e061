"""A pytest plugin: with CI=true nothing may be skipped, and what is deselected is exactly the slow list, printed."""

from __future__ import annotations

import os
from typing import Any

import pytest

_skipped: list[str] = []
_slow: set[str] = set()
_unlisted: set[str] = set()


def _strict() -> bool:
    return os.environ.get("CI") == "true"


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Remembers what `-m "not slow"` took out."""
    for item in items:
        if item.get_closest_marker("slow"):
            _slow.add(item.nodeid)
        elif not item.config.getoption("keyword"):  # choosing by -k is choosing, not leaving out
            _unlisted.add(item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Takes over what a worker deselected."""
    told = getattr(node, "workeroutput", {})
    _slow.update(told.get("slow", []))
    _unlisted.update(told.get("unlisted", []))


def pytest_runtest_logreport(report: Any) -> None:
    """Remembers skips, expected failures and empty parameter sets."""
    if report.skipped or hasattr(report, "wasxfail"):
        _skipped.append(f"{report.nodeid}: {report.longrepr or report.wasxfail}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turns a run with skips into a failed one; in a worker, hands over what was deselected."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["slow"], output["unlisted"] = sorted(_slow), sorted(_unlisted)
    elif _strict() and (_skipped or _unlisted) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the slow list and, under CI, what must not have been left out."""
    if _slow:
        terminalreporter.section("deselected: the slow list, run by `make test-all`")
        functions = [name.partition("[")[0] for name in _slow]
        for function in sorted(set(functions)):
            terminalreporter.write_line(f"{function} x {functions.count(function)}")
    if _strict() and (_skipped or _unlisted):
        terminalreporter.section("CI: nothing may be skipped")
        for line in [*_skipped, *[f"{name}: deselected, not slow" for name in sorted(_unlisted)]]:
            terminalreporter.write_line(line, red=True)
