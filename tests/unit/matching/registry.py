"""A workshop whose target is staged, so that new records can be compared with what is there."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from sync_platform.engine.spec import Matching, SyncSpec
from sync_platform.ledger.plans import latest_plan
from sync_platform.matching.applying import Applied, apply_decisions
from sync_platform.matching.decisions import MATCHES, accepted
from sync_platform.matching.forms import fields_of
from sync_platform.matching.proposing import propose
from sync_platform.staging.tables import create, table_name
from tests.unit.engine.workshop import Workshop, a_sync

MATCHING = Matching(fields=fields_of(("email", "name")))
COLUMNS = {"id": pa.string(), "email": pa.string(), "name": pa.string()}


def matching_sync(**settings: object) -> SyncSpec:
    """The workshop's sync with `matching`, its first run waiting for the match plan."""
    return a_sync(**{"compare": "target", "matching": MATCHING, "first_sync": "match", **settings})


@dataclass
class Registry(Workshop):
    """A workshop with the steps of `match`."""

    spec: SyncSpec = field(default_factory=matching_sync)
    rows_of_file: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=MATCHES))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stage()

    def contact(self, email: str | None, name: str) -> str:
        """A record that the target has already; its id."""
        made = self.shelf.put(email=email, name=name)
        self.stage()
        return str(made)

    def stage(self) -> None:
        """Reads the target into staging, as a run does first."""
        self.seq += 1
        target = self.spec.target
        with self.lake.connect() as con:
            create(con, target.connection, target.object, COLUMNS)
            table = table_name(target.connection, target.object)
            con.execute(f"DELETE FROM {table}")
            for id, row in self.shelf.rows.items():
                con.execute(
                    f"INSERT INTO {table} (id, email, name, _key, _hash, _seq, _deleted)"
                    " VALUES (?, ?, ?, ?, 0, ?, FALSE)",
                    [id, row["email"], row["name"], id, self.seq],
                )

    def match(self) -> dict[str, tuple[str, str | None, str]]:
        """`match SYNC`: (class, target id, decision) for each source record (its best row)."""
        self.stage()
        with self.session() as session:
            self.plan(session)
        with self.session() as session:
            with session.database.connection() as connection:
                made = latest_plan(connection, self.spec.name)
            assert made is not None
            self.rows_of_file = propose(session, self.spec, made.plan_id, self.rows_of_file)
        best = self.rows_of_file.unique("source_key", keep="first", maintain_order=True)
        return {
            key: (name, target, decision)
            for key, target, name, decision in best.select("source_key", "target_id", "class", "decision").iter_rows()
        }

    def decide(self, key: str, decision: str, target: str | None = None) -> None:
        """Somebody edits the file: one row of a record, the others of it are dropped when it is created."""
        mine = pl.col("source_key") == key
        row = mine if target is None else mine & (pl.col("target_id") == target)
        rows = self.rows_of_file.with_columns(decision=pl.when(row).then(pl.lit(decision)).otherwise("decision"))
        if decision == "create":
            rows = rows.unique(["source_key", "decision"], keep="first", maintain_order=True)
        self.rows_of_file = rows

    def apply(self, *classes: str) -> Applied:
        """`match SYNC --accept CLASSES` or, without classes, `--apply`."""
        self.rows_of_file = accepted(self.rows_of_file, classes)
        with self.session() as session:
            return apply_decisions(session, self.spec, self.rows_of_file)
