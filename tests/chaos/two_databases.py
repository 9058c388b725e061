"""A MariaDB and a PostgreSQL with a sync each way, driven by the command line: what their chaos tests share."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psycopg

from tests.private_mariadb import PrivateMariaDB
from tests.project_files import lay_out
from tests.world import World

#: The sync from MariaDB to PostgreSQL, and the one back; each has tables of its own.
SYNCS = {"out_of_mysql": "mysql", "into_mysql": "postgres"}
FILES = {
    "resources/systems.py": """
        from dagster import EnvVar

        from sync_platform.connectors.mysql import MySQL
        from sync_platform.connectors.postgres import Postgres

        shop = MySQL(url=EnvVar("MYSQL_URL"), lock_timeout_seconds=3)
        office = Postgres(url=EnvVar("POSTGRES_URL"))
        """,
    "assets/out_of_mysql/defs.yaml": """
        type: sync_platform.Sync
        attributes:
          source: {connection: shop, object: source_rows}
          target: {connection: office, object: target_rows, match: [id]}
          mode: mirror
          first_sync: create
          mapping: {id: id, name: name, amount: amount}
        """,
    "assets/into_mysql/defs.yaml": """
        type: sync_platform.Sync
        attributes:
          source: {connection: office, object: source_rows}
          target: {connection: shop, object: target_rows, match: [id]}
          mode: mirror
          first_sync: create
          mapping: {id: id, name: name, amount: amount}
        """,
}
_DDL = "CREATE TABLE {name} (id BIGINT PRIMARY KEY, name VARCHAR(60) NOT NULL, amount DECIMAL(12,2))"

Rows = dict[int, tuple[str, Decimal | None]]


@dataclass
class TwoDatabases:
    """Both databases, and the project between them."""

    world: World
    maria: PrivateMariaDB
    office: str
    database: str

    def prepare(self, folder: Path) -> None:
        """Writes the project and makes the empty tables."""
        self.world.project = folder
        lay_out(folder, FILES)
        self.world.extra = {"MYSQL_URL": self.maria.create(self.database), "POSTGRES_URL": self.office}
        for table in ("source_rows", "target_rows"):
            self.do("mysql", _DDL.format(name=table))
            self.do("postgres", _DDL.format(name=table))

    def do(self, side: str, statement: str) -> None:
        """One statement at a side, committed."""
        if side == "mysql":
            with self.maria.person(self.database) as db, db.cursor() as cursor:
                cursor.execute(statement)
        else:
            with psycopg.connect(self.office, autocommit=True) as db:
                db.execute(statement.encode())

    def fill(self, side: str, first: int, last: int) -> None:
        """New rows in a side's source."""
        numbers = f"seq_{first}_to_{last}" if side == "mysql" else f"generate_series({first}, {last}) AS s(seq)"
        self.do(side, f"INSERT INTO source_rows SELECT seq, concat('name ', seq), seq / 100.0 FROM {numbers}")

    def change(self, side: str) -> None:
        """Edits a third of a side's source, and deletes two rows."""
        self.do(side, "UPDATE source_rows SET name = concat(name, '!'), amount = NULL WHERE id % 3 = 0")
        self.do(side, "DELETE FROM source_rows WHERE id % 1000 = 1")

    def rows(self, side: str, table: str) -> Rows:
        """A table's rows by id; its primary key allows none twice."""
        query = f"SELECT id, name, amount FROM {table}"
        if side == "mysql":
            with self.maria.person(self.database) as db, db.cursor() as cursor:
                cursor.execute(query)
                return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}
        with psycopg.connect(self.office) as db:
            return {row[0]: (row[1], row[2]) for row in db.execute(query.encode()).fetchall()}

    def runs_begun(self) -> int:
        """How many runs were ever begun: a moment is counted from the work's begin, not from Python's start."""
        with psycopg.connect(self.world.database_url) as state:
            row = state.execute("SELECT count(*) FROM sync.runs").fetchone()
        assert row is not None
        return int(row[0])

    def assert_settled(self, sync: str) -> None:
        """One more run, then agreement, then silence."""
        source = SYNCS[sync]
        target = "postgres" if source == "mysql" else "mysql"
        again = self.world.run(sync)
        assert again.code == 0, again.out[-3000:] + again.err[-3000:]
        assert self.rows(target, "target_rows") == self.rows(source, "source_rows")
        last = self.world.run(sync).json["sync_summary"]
        assert [last[name] for name in ("created", "updated", "deleted")] == [0, 0, 0]
