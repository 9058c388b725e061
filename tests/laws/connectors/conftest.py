"""Puts every law to every stream of every connector: nothing here lists one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from other_side import Subject, side_of, stop_all, subjects


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    wanted = [
        subject
        for subject in subjects()
        if metafunc.definition.get_closest_marker("over_http") is None or subject.over_http
    ]
    if "subject" in metafunc.fixturenames:
        metafunc.parametrize("subject", wanted, ids=str)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "over_http: a law about HTTP; databases are not its subjects")


@pytest.fixture(scope="session", autouse=True)
def _sides() -> Iterator[None]:
    yield
    stop_all()


@pytest.fixture
def side(subject: Subject) -> Iterator[Any]:
    """The emptied other side; at the end it must have nothing to complain about."""
    found = side_of(subject.kind)
    found.reset()
    yield found
    complaints = found.complaints()
    assert complaints == [], f"{subject}: the system would not have accepted: {complaints[:3]}"
