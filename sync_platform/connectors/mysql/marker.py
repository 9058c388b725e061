"""The table `_sync_delivered` in the target: which deliveries happened, and what became of each row.

It is written in the same transaction as the rows, so after a lost answer it tells the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from sync_platform.connectors.mysql.faults import DriverError, is_denied, words_of
from sync_platform.connectors.mysql.session import Session, identifier, literal
from sync_platform.connectors.packing import packed, unpacked
from sync_platform.connectors.sql import OUTCOMES
from sync_platform.errors import AuthError

NAME: Final = "_sync_delivered"
_KEPT_DAYS: Final = 30


class Markers:
    """The delivery markers of one database."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._table = identifier(database, NAME)
        self._ready = False

    @property
    def ddl(self) -> str:
        """The statement that makes the table, for a person to run where the user may not."""
        return (
            f"CREATE TABLE IF NOT EXISTS {self._table} (delivery VARBINARY(255) PRIMARY KEY, "
            "object VARBINARY(255) NOT NULL, delivered_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, "
            "row_count INT, outcomes LONGBLOB, KEY (delivered_at)) ENGINE=InnoDB"
        )

    def exists(self, session: Session) -> bool:
        """Whether the table is there."""
        sql = (
            "SELECT 1 AS one FROM information_schema.TABLES "
            f"WHERE TABLE_SCHEMA = {literal(self._database)} AND TABLE_NAME = {literal(NAME)}"
        )
        return bool(session.rows(sql, "looking for markers"))

    def prepare(self, session: Session) -> None:
        """Makes the table once, and forgets deliveries nobody will ask for again."""
        if self._ready:
            return
        if not self.exists(session):
            try:
                session.raw(self.ddl)
            except DriverError as error:
                if is_denied(error):
                    raise AuthError(
                        f"{session.place}: cannot make the table {self._table} that tells which deliveries happened "
                        f"({words_of(error)})",
                        mend=f"let its owner run: {self.ddl}; and GRANT SELECT, INSERT, UPDATE, DELETE on it",
                    ) from None
                with session.translating("making the marker table"):
                    raise
        session.begin(read_only=False)
        session.run(
            f"DELETE FROM {self._table} WHERE delivered_at < now() - INTERVAL {_KEPT_DAYS} DAY",
            "forgetting old deliveries",
        )
        session.commit("forgetting old deliveries")
        self._ready = True

    def claim(self, session: Session, delivery: str, stream: str) -> pa.Table | None:
        """Marks a delivery in the open transaction; the recorded outcomes when it is already marked.

        A second process that delivers the same thing waits here until the first has ended.
        """
        known = self.claim_all(session, [delivery], stream)
        return known.get(delivery)

    def claim_all(self, session: Session, deliveries: Sequence[str], stream: str) -> dict[str, pa.Table]:
        """Marks deliveries; the recorded outcomes of those already marked, by delivery."""
        rows = ", ".join(f"({literal(d.encode())}, {literal(stream.encode())})" for d in sorted(deliveries))
        made = session.run(
            f"INSERT INTO {self._table} (delivery, object) VALUES {rows} ON DUPLICATE KEY UPDATE delivery = delivery",
            "marking the delivery",
        )
        if made.affected == len(deliveries):
            return {}
        wanted = ", ".join(literal(d.encode()) for d in deliveries)
        sql = (
            f"SELECT delivery, outcomes FROM {self._table} "
            f"WHERE delivery IN ({wanted}) AND row_count IS NOT NULL FOR UPDATE"
        )
        return {
            row["delivery"].decode(): unpacked(row["outcomes"]) if row["outcomes"] else OUTCOMES.empty_table()
            for batch in session.batches(sql, "reading recorded outcomes", 1 << 20)
            for row in batch.to_pylist()
        }

    def record(self, session: Session, delivery: str, outcomes: pa.Table) -> None:
        """Keeps what became of each row beside the marker."""
        self.record_all(session, {delivery: outcomes})

    def record_all(self, session: Session, outcomes: Mapping[str, pa.Table]) -> None:
        """Keeps the outcomes of several deliveries beside their markers."""
        rows = ", ".join(
            f"({literal(d.encode())}, '', {told.num_rows}, {literal(packed(told))})" for d, told in outcomes.items()
        )
        session.run(
            f"INSERT INTO {self._table} (delivery, object, row_count, outcomes) VALUES {rows} "
            "ON DUPLICATE KEY UPDATE row_count = VALUES(row_count), outcomes = VALUES(outcomes)",
            "recording the outcomes",
        )

    def seen(self, session: Session, delivery: str) -> bool:
        """Whether a delivery is marked."""
        if not self.exists(session):
            return False
        sql = f"SELECT 1 AS one FROM {self._table} WHERE delivery = {literal(delivery.encode())}"
        return bool(session.rows(sql, "looking for a delivery"))
