"""The order in which several syncs run."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_platform.commands.running_several import ordered

NAMES = list("abcdef")


@pytest.mark.parametrize(
    ("parents", "order"),
    [
        ({}, ["a", "b", "c"]),
        ({"a": ["b"], "b": ["c"]}, ["c", "b", "a"]),
        ({"a": ["c"]}, ["b", "c", "a"]),
    ],
)
def test_those_that_others_refer_to_go_first_and_the_rest_stays_as_given(
    parents: dict[str, list[str]], order: list[str]
) -> None:
    assert ordered(["a", "b", "c"], parents) == order


@settings(suppress_health_check=[HealthCheck.too_slow])  # says something about the machine's load, not about this
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=15))
def test_every_sync_is_there_once_cycles_or_not_and_no_child_goes_first(pairs: list[tuple[str, str]]) -> None:
    parents: dict[str, list[str]] = {}
    for child, parent in pairs:
        if child > parent:  # so that there is no cycle
            parents.setdefault(child, []).append(parent)
    order = ordered(NAMES[::-1], parents)
    assert sorted(order) == NAMES
    assert all(order.index(parent) < order.index(child) for child, some in parents.items() for parent in some)
    looped = {child: [parent] for child, parent in pairs if child != parent}
    assert sorted(ordered(NAMES, looped)) == NAMES
