"""What the laws met: law x stream x cases, printed at the end of a run. A law that met nothing fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

#: (law, stream) -> cases
CASES: Counter[tuple[str, str]] = Counter()


class Met:
    """What one application of a law met."""

    def __init__(self) -> None:
        self.cases = 0

    def case(self, count: int = 1) -> None:
        """Notes that the law was put to the test `count` times."""
        self.cases += count


@contextmanager
def law(name: str, stream: str) -> Iterator[Met]:
    """One application of a law to a stream; it fails when nothing was met inside the block."""
    met = Met()
    yield met
    assert met.cases > 0, f"the law {name!r} met no record, request or fault of {stream}: it proves nothing"
    CASES[name, stream] += met.cases


def lines() -> Iterator[str]:
    """The table, one line per law and a column per stream."""
    streams = sorted({stream for _, stream in CASES})
    laws = list(dict.fromkeys(name for name, _ in CASES))
    width = max((len(name) for name in laws), default=0)
    yield " " * width + "".join(f"  {stream}" for stream in streams)
    for name in laws:
        counts = ((CASES.get((name, stream)), len(stream) + 2) for stream in streams)
        yield name.ljust(width) + "".join(f"{'-' if count is None else count:>{room}}" for count, room in counts)
