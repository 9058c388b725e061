"""Sources that prove, without sending their rows, which of them are as they were read before.

The server computes a 64-bit digest of every row as it would be read. The digest's low bits number the row's block;
a block's count and sum of digests tell whether it holds the same rows as one of ours. A row that changed leaves one
block and enters another: both differ, and only such blocks are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import pyarrow as pa

from sync_platform.model import Page, Position


class Comparison(Protocol):
    """The blocks of a stream in one snapshot, which `pages` reads from. Close it."""

    digests: str  # names what a row's digest is made of: others than of that name cannot be compared with it
    sums: pa.Table  # `block`, `rows` (int64) and `total` (the digests' sum, as text) of every block that has rows

    def fits(self, since: Position) -> bool:
        """Whether `pages` can go on from there."""

    def pages(self, since: Position, blocks: Sequence[int]) -> Iterator[Page]:
        """The rows of these blocks with their digests; the last page is `complete` and its position is behind all."""

    def close(self) -> None:
        """Ends the snapshot."""


@runtime_checkable
class TellsDigests(Protocol):
    """A connector whose server computes digests of rows."""

    def read_digested(
        self,
        stream: str,
        since: Position | None = None,
        *,
        fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:
        """As `Connector.read`; where the stream can be compared, its pages have digests (see `Page`)."""

    def compare(
        self, stream: str, bits: int, *, fields: Sequence[str] | None = None, where: str | None = None
    ) -> Comparison | None:
        """The digests of a stream by block (the low `bits` of a digest); None where the stream cannot be compared."""
