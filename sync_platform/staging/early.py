"""A read that begins while dlt and the lake are made ready, from where the state says that the last load ended.

What counts is the position that lies in the lake, beside the rows: where that is another one (a load was killed, or the
state's history purged), the read begun is ended, and another one begins.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Final

from sync_platform.connectors.ahead import Ahead
from sync_platform.connectors.digests import TellsDigests
from sync_platform.model import Page, Position
from sync_platform.staging.comparing import Comparing, Part
from sync_platform.staging.source import Source, needs_full_read

if TYPE_CHECKING:
    import duckdb

    from sync_platform.staging.facts import Facts
    from sync_platform.staging.reading import Reading

#: Pages of a read begun early that may wait, besides those that the connector itself reads ahead.
_AHEAD: Final = 2


class EarlyRead:
    """A read begun: from a position, or a full one (by digests, where a whole one left facts). Close it."""

    def __init__(
        self,
        source: Source,
        facts: Facts,
        since: Position | None,
        pages: Callable[[Position | None], Generator[Page]],
        *,
        first: bool,
    ) -> None:
        self._source, self._facts, self._since = source, facts, since
        self._ahead: Ahead[Page] | None = None
        self._comparing: Comparing | None = None
        if since is None and not first and isinstance(source.connector, TellsDigests) and facts.digests is not None:
            self._comparing = Comparing(source.connector, source.stream.name, facts, source.asked(), source.where)
        else:
            self._ahead = Ahead(pages(since), _AHEAD)

    def pages(self, since: Position | None) -> Iterator[Page] | None:
        """The pages since there; None when the read that was begun is another one, which ends."""
        if self._ahead is not None and since == self._since:
            return self._ahead
        self.close()
        return None

    def part(self, con: duckdb.DuckDBPyConnection, connection: str, reading: Reading) -> Part | None:
        """What to read of a full read that compares; None: everything."""
        if self._comparing is None or not reading.finished or reading.position is None:
            return None
        if needs_full_read(reading, self._source.fields, self._source.where):
            return None
        return self._comparing.part(con, connection, Position(reading.position))

    def close(self) -> None:
        """Ends what was begun, wherever it stands."""
        for one in (self._ahead, self._comparing):
            if one is not None:
                one.close()
        self._ahead = self._comparing = None
