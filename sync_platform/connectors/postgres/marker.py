"""The table `_sync_delivered` in the target: which deliveries happened, and what became of each row.

It is written in the same transaction as the rows, so after a lost answer it tells the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa
from adbc_driver_manager import Error as DriverError

from sync_platform.connectors.packing import packed, unpacked
from sync_platform.connectors.postgres.connections import Connection
from sync_platform.connectors.postgres.faults import details
from sync_platform.connectors.postgres.session import Session, array_literal, identifier, literal
from sync_platform.connectors.sql import OUTCOMES
from sync_platform.errors import AuthError

NAME: Final = "_sync_delivered"
_KEPT_DAYS: Final = 30


class Markers:
    """The delivery markers of one schema."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._table = identifier(schema, NAME)
        self._escaped = self._table.replace("%", "%%")  # for psycopg, whose placeholders begin so
        self._ready = False

    @property
    def ddl(self) -> str:
        """The statement that makes the table, for a person to run where the role may not."""
        return (
            f"CREATE TABLE IF NOT EXISTS {self._table} (delivery text PRIMARY KEY, object text NOT NULL, "
            "delivered_at timestamptz NOT NULL DEFAULT now(), row_count integer, outcomes bytea)"
        )

    def exists(self, session: Session) -> bool:
        """Whether the table is there."""
        found = session.rows(f"SELECT to_regclass({literal(self._table)}) IS NOT NULL AS there", "looking for markers")
        return bool(found["there"][0].as_py())

    def prepare(self, session: Session) -> None:
        """Makes the table once, and forgets deliveries nobody will ask for again."""
        if self._ready:
            return
        session.begin(read_only=False)
        if not self.exists(session):
            try:
                session.raw(self.ddl)
                # what is recorded is compressed already: trying again took as long as writing it
                session.raw(f"ALTER TABLE {self._table} ALTER outcomes SET STORAGE EXTERNAL")
                session.commit("making the marker table")
            except DriverError as error:
                session.rollback()
                if error.sqlstate == "42501":
                    raise AuthError(
                        f"{session.place}: cannot make the table {self._table} that tells which deliveries happened "
                        f"({details(error)['message']})",
                        mend=f"let its owner run: {self.ddl}; and grant SELECT, INSERT, UPDATE, DELETE on it",
                    ) from None
                if error.sqlstate not in ("23505", "42P07"):  # another process made it at the same moment
                    with session.translating("making the marker table"):
                        raise
        session.run(
            f"DELETE FROM {self._table} WHERE delivered_at < now() - interval '{_KEPT_DAYS} days'",
            "forgetting old deliveries",
        )
        session.commit("forgetting old deliveries")
        self._ready = True

    def claim(self, session: Session, delivery: str, stream: str) -> pa.Table | None:
        """Marks a delivery in the open transaction; the recorded outcomes when it is already marked.

        A second process that delivers the same thing waits here until the first has ended.
        """
        made = session.rows(
            f"INSERT INTO {self._table} (delivery, object) VALUES ({literal(delivery)}, {literal(stream)}) "
            "ON CONFLICT (delivery) DO NOTHING RETURNING delivery",
            "marking the delivery",
        )
        if made.num_rows:
            return None
        told = session.rows(
            f"SELECT outcomes FROM {self._table} WHERE delivery = {literal(delivery)}", "reading a delivery's outcomes"
        )["outcomes"].to_pylist()
        recorded = told[0] if told else None
        if recorded is None:
            return OUTCOMES.empty_table()
        return unpacked(recorded)

    def claimed(self, connection: Connection, delivery: str, stream: str) -> bool:
        """Marks a delivery in the transaction of psycopg's connection; False when it is already marked."""
        sql = f"INSERT INTO {self._escaped} (delivery, object) VALUES (%s, %s) ON CONFLICT (delivery) DO NOTHING"
        return connection.execute(sql.encode(), (delivery, stream)).rowcount == 1

    def note(self, connection: Connection, delivery: str, outcomes: pa.Table) -> None:
        """Keeps what became of each row beside a marker that was just claimed so."""
        sql = f"UPDATE {self._escaped} SET outcomes = %b, row_count = %s WHERE delivery = %s"
        connection.execute(sql.encode(), (packed(outcomes), outcomes.num_rows, delivery))

    def record(self, session: Session, delivery: str, outcomes: pa.Table) -> None:
        """Keeps what became of each row beside the marker."""
        told = packed(outcomes)
        with session.translating("recording the outcomes"):
            session.cursor.execute(
                f"UPDATE {self._table} SET outcomes = $1, row_count = {outcomes.num_rows} WHERE delivery = $2",
                (told, delivery),
            )

    def claim_all(self, session: Session, tokens: Sequence[str], stream: str) -> dict[str, pa.Table]:
        """Marks the tokens of single changes; the recorded outcomes of those already marked, by token."""
        array = f"{array_literal(tokens)}::text[]"
        made = session.rows(
            f"INSERT INTO {self._table} (delivery, object) SELECT t, {literal(stream)} FROM unnest({array}) AS t "
            "ORDER BY t ON CONFLICT (delivery) DO NOTHING RETURNING delivery",
            "marking the changes",
        )
        if made.num_rows == len(tokens):
            return {}
        told = session.rows(
            f"SELECT delivery, outcomes FROM {self._table} WHERE delivery = ANY({array}) AND outcomes IS NOT NULL",
            "reading recorded outcomes",
        )
        return {row["delivery"]: unpacked(row["outcomes"]) for row in told.to_pylist()}

    def record_all(self, session: Session, outcomes: Mapping[str, pa.Table]) -> None:
        """Keeps the outcome of each single change beside its token."""
        tokens = list(outcomes)
        blobs = ["\\x" + packed(outcomes[token]).hex() for token in tokens]
        session.run(
            f"UPDATE {self._table} m SET outcomes = w.o::bytea, row_count = 1 "
            f"FROM unnest({array_literal(tokens)}::text[], {array_literal(blobs)}::text[]) AS w(d, o) "
            "WHERE m.delivery = w.d",
            "recording the outcomes",
        )

    def seen(self, session: Session, delivery: str) -> bool:
        """Whether a delivery is marked."""
        session.begin(read_only=True)
        if not self.exists(session):
            return False
        found = session.rows(
            f"SELECT 1 AS one FROM {self._table} WHERE delivery = {literal(delivery)}", "looking for a delivery"
        )
        return bool(found.num_rows)
