"""The comparison behind every proof of a webhook."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from sync_platform.connectors.webhook import proved

SIZE = 4_000_000


@pytest.mark.parametrize(
    ("given", "known", "wanted"),
    [
        (b"a", [b"a"], True),
        (b"a", [b"b", b"a"], True),
        (b"a", [b"a", b"b"], True),
        (b"a", [], False),
        (b"", [b"a"], False),
        (b"a", [b"ab", b"A", b""], False),
        (b"\xc3\xa9", [b"e", b"\xc3\xa9"], True),
    ],
)
def test_a_proof_is_one_of_the_known_ones(given: bytes, known: Sequence[bytes], wanted: bool) -> None:
    assert proved(given, known) is wanted


def cost(given: bytes, known: bytes) -> float:
    """The least processor time of one comparison, of several."""
    times = []
    for _ in range(15):
        begun = time.thread_time_ns()
        proved(given, [known])
        times.append(time.thread_time_ns() - begun)
    return max(1.0, float(min(times)))


def test_the_work_does_not_tell_how_much_of_a_proof_fits() -> None:
    known = b"x" * SIZE
    differs_at_once, differs_at_the_end = b"y" + known[1:], known[:-1] + b"y"
    # `==` stops at the first difference: 4 MB that differ in the first byte cost it thousands of times less
    assert cost(differs_at_the_end, known) < 10 * cost(differs_at_once, known)
