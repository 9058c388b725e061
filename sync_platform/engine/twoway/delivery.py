"""Delivery of a two-way sync's rows: the same machinery as one way, once for each side against its own connector."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from sync_platform.engine.rowwise import RowwiseDelivery
from sync_platform.engine.spec import Side
from sync_platform.engine.twoway.changes import Row, target_of
from sync_platform.engine.twoway.pairing import Pairing
from sync_platform.engine.twoway.settling import settle_side
from sync_platform.engine.twoway.values import told
from sync_platform.ledger.bases import pair_links, partners
from sync_platform.ledger.claims import LEASE_SECONDS
from sync_platform.ledger.links import LINKS
from sync_platform.model import Op, Record

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

    Settled = Callable[[Side, pl.DataFrame, Mapping[str, Row], Mapping[str, Record]], pl.DataFrame]


@dataclass
class SideDelivery:
    """Delivers the rows of one side of one plan. `settled` settles a batch; None: in a transaction of its own."""

    session: Session
    spec: SyncSpec
    pairing: Pairing
    side: Side
    plan_id: str
    exact: bool = False
    settled: Settled | None = None
    patience: float = LEASE_SECONDS
    _rows: dict[str, Row] = field(default_factory=dict)
    _answers: dict[str, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        written = self.spec if self.side == "target" else self.pairing.reversed
        self._connector = self.session.connector(written.target.connection)
        mapping = self.pairing.forward if self.side == "target" else self.pairing.back
        self._delivery = RowwiseDelivery(
            self.session,
            written,
            side_plan(self.plan_id, self.side),
            self._connector,
            self._connector.stream(written.target.object),
            mapping.fields,
            self.exact,
            settle=self._settle,
            patience=self.patience,
            links=None if self.side == "target" else self._links,
            careful=True,
            answers=self._answers,
        )
        self._last: pl.DataFrame = pl.DataFrame()

    def deliver(self, op: Op, rows: Sequence[Row]) -> Iterator[pl.DataFrame]:
        """Delivers rows of one op; yields each batch as it was settled."""
        self._rows |= {row["_key"]: row for row in rows}
        for _ in self._delivery.deliver_rows(op, [self._whole(row) for row in rows]):
            yield self._last

    def deliver_claimed(self, op: Op, rows: Sequence[Row]) -> Iterator[pl.DataFrame]:
        """As `deliver`, for rows whose links and both records were read under claims that the caller holds."""
        self._rows |= {row["_key"]: row for row in rows}
        for _ in self._delivery.deliver_claimed(op, [self._whole(row) for row in rows]):
            yield self._last

    def _whole(self, row: Row) -> Row:
        """A row with every field of its side, as the delivery reads them."""
        names = self._delivery.fields
        empty = {f"{when}:{name}": None for when in ("new", "old") for name in names}
        blank = self._delivery.stream.empty_is_null
        sent = {name: told(row[f"new:{name}"], empty_is_null=blank) for name in row["_fields"]}
        return empty | row | {"_sent": sent}

    def _settle(self, settled: pl.DataFrame) -> None:
        if self.settled is not None:
            self._last = self.settled(self.side, settled, self._rows, self._answers)
            return
        with self.session.database.connection() as connection:
            self._last = settle_side(
                connection, self.spec, self.side, settled, self._rows,
                run_id=self.session.run_id, plan_id=self.plan_id, answers=self._answers,
            )  # fmt: skip

    def _links(self, keys: Sequence[str]) -> pl.DataFrame:
        """The links of source records as the source's own side sees them: what they were linked to, if it still is."""
        linked = pair_links(self.session.database, self.spec, [key for key in keys if target_of(key) is None])
        fresh = {target: key for key in keys if (target := target_of(key)) is not None}
        taken = partners(self.session.database, self.spec, list(fresh))
        rows: list[tuple[Any, ...]] = []
        for key, link in linked.items():
            same = link.target_id == self._rows[key]["_partner"]
            rows.append((key, key if same else link.key + " -> " + link.target_id, None, None, None))
        rows += [(fresh[target], key, None, None, None) for target, key in taken.items()]
        return pl.DataFrame(rows, schema=LINKS, orient="row")


def side_plan(plan_id: str, side: Side) -> str:
    """The plan's id as one side's tokens are made of it: a record may be written on both sides by one plan."""
    return plan_id if side == "target" else str(uuid.uuid5(uuid.UUID(plan_id), side))
