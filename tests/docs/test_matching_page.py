"""The figures of the matching page are those that are measured."""

from __future__ import annotations

from tests.matching.measure import PAGE, classified, measured, table
from tests.matching.people import people


def test_the_table_on_the_page_is_what_is_measured_today() -> None:
    world = people(10_000, 7)
    assert table(measured(world, classified(world))) in PAGE.read_text(encoding="utf-8"), (
        "write it again: python -m tests.matching.measure --write"
    )
