"""Two databases with a sync each way, driven by the command line: what their chaos tests share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path

import psycopg

from tests.cut_proxy import CutProxy
from tests.private_mariadb import PrivateMariaDB
from tests.private_postgres import PrivateServer
from tests.project_files import lay_out
from tests.world import World

Server = PrivateMariaDB | PrivateServer
Rows = dict[int, tuple[str, Decimal | None]]

#: The sync from the first database to the second, and the one back; each has tables of its own.
SYNCS = {"there": (0, 1), "back": (1, 0)}
_SYNC = """
    type: sync_platform.Sync
    attributes:
      source: {{connection: {source}, object: source_rows}}
      target: {{connection: {target}, object: target_rows, match: [id]}}
      mode: mirror
      first_sync: create
      guards: {{max_deletes: 100000}}
      frequency: {frequency}
      mapping: {{id: id, name: name, amount: amount}}
    """
_CONNECTOR = {PrivateMariaDB: "MySQL", PrivateServer: "Postgres"}
_DDL = "CREATE TABLE {name} (id BIGINT PRIMARY KEY, name VARCHAR(60) NOT NULL, amount DECIMAL(12,2))"


def label(server: Server) -> str:
    """What a server is called in a table."""
    return f"postgresql {server.major}" if isinstance(server, PrivateServer) else "mariadb"


@dataclass
class Side:
    """One of the two databases; the product reaches it through a proxy, a person directly."""

    server: Server
    database: str
    name: str
    proxy: CutProxy = field(init=False)
    own: str = field(init=False)

    def __post_init__(self) -> None:
        self.own = self.server.create(self.database)
        self.proxy = CutProxy(self.server.port)

    @property
    def url(self) -> str:
        """How the product reaches it."""
        return self.own.replace(f":{self.server.port}/", f":{self.proxy.port}/")

    @property
    def variable(self) -> str:
        """The environment variable of its url."""
        return f"{self.name.upper()}_URL"

    def do(self, *statements: str) -> None:
        """Statements of a person, each committed."""
        if isinstance(self.server, PrivateMariaDB):
            with self.server.person(self.database) as db, db.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        else:
            with psycopg.connect(self.own, autocommit=True) as db:
                for statement in statements:
                    db.execute(statement.encode())

    def numbers(self, first: int, last: int) -> str:
        """A FROM item with a column `seq` of whole numbers."""
        if isinstance(self.server, PrivateMariaDB):
            return f"seq_{first}_to_{last}"
        return f"generate_series({first}, {last}) AS s(seq)"

    def fill(self, first: int, last: int) -> None:
        """New rows in its source table."""
        rows = "seq, concat('name ', seq), seq / 100.0"
        self.do(f"INSERT INTO source_rows (id, name, amount) SELECT {rows} FROM {self.numbers(first, last)}")

    def change(self, note: str = "!") -> None:
        """Edits a third of its source table, and deletes a thousandth."""
        self.do(
            f"UPDATE source_rows SET name = concat('name ', id, '{note}'), amount = NULL WHERE id % 3 = 0",
            f"DELETE FROM source_rows WHERE id % 1000 = {len(note) % 1000}",
        )

    def rows(self, table: str) -> Rows:
        """A table's rows by id, which its primary key allows once; an amount counts by its value, also as a text."""
        query = f"SELECT id, name, amount FROM {table}"
        if isinstance(self.server, PrivateMariaDB):
            with self.server.person(self.database) as db, db.cursor() as cursor:
                cursor.execute(query)
                found = cursor.fetchall()
        else:
            with psycopg.connect(self.own) as db:
                found = tuple(db.execute(query.encode()).fetchall())
        return {key: (name, None if amount is None else Decimal(str(amount))) for key, name, amount in found}

    @property
    def text(self) -> str:
        """Its type for long texts."""
        return "MEDIUMTEXT" if isinstance(self.server, PrivateMariaDB) else "TEXT"

    def move(self, table: str, folder: Path) -> None:
        """Makes an empty table anew whose rows lie in a folder."""
        self.do(f"DROP TABLE {table}")
        if isinstance(self.server, PrivateMariaDB):
            self.do(f"{_DDL.format(name=table)} DATA DIRECTORY = '{folder}'")
        else:
            self.do(f"CREATE TABLESPACE {self.database} LOCATION '{folder}'")
            self.do(f"{_DDL.format(name=table)} TABLESPACE {self.database}")

    def leave(self) -> None:
        """Lets go of the folder, where no table lies any more."""
        if isinstance(self.server, PrivateServer):
            self.do(f"DROP TABLESPACE {self.database}")

    def restart(self, *, kill: bool) -> None:
        """Restarts the server: with a crash, or orderly though clients are connected."""
        self.server.stop(kill=kill)
        self.server.start()


@dataclass
class TwoDatabases:
    """Both databases, and the project between them."""

    world: World
    sides: tuple[Side, Side]

    def prepare(self, folder: Path, *, frequency: str = "on_demand", settings: Mapping[str, str] | None = None) -> None:
        """Writes the project and makes the empty tables. `settings`: more of a connector's keywords, by its name."""
        self.world.project = folder
        more = settings or {}
        resources = ["from dagster import EnvVar", ""]
        resources += [
            f"from sync_platform.connectors.{one.lower()} import {one}" for one in sorted(_CONNECTOR.values())
        ]
        for side in self.sides:
            keywords = f", {more[side.name]}" if side.name in more else ""
            resources.append(f'{side.name} = {_CONNECTOR[type(side.server)]}(url=EnvVar("{side.variable}"){keywords})')
            for table in ("source_rows", "target_rows"):
                side.do(_DDL.format(name=table))
        files = {"resources/systems.py": "\n".join(resources) + "\n"}
        for sync in SYNCS:
            source, target = self.of(sync)
            files[f"assets/{sync}/defs.yaml"] = _SYNC.format(
                source=source.name, target=target.name, frequency=frequency
            )
        lay_out(folder, files)
        self.world.extra = {side.variable: side.url for side in self.sides}

    def of(self, sync: str) -> tuple[Side, Side]:
        """Source and target of a sync."""
        first, second = SYNCS[sync]
        return self.sides[first], self.sides[second]

    def look_at_the_target(self, sync: str) -> None:
        """From now on plans compare with what the target holds, not with what was last written."""
        file = self.world.project / f"assets/{sync}/defs.yaml"
        file.write_text(file.read_text() + "  compare: target\n")

    def agree(self, sync: str) -> bool:
        """Whether the target holds exactly what the source has."""
        source, target = self.of(sync)
        return target.rows("target_rows") == source.rows("source_rows")

    def assert_settled(self, sync: str) -> None:
        """One more run, then agreement, then silence."""
        self.assert_repaired(sync)
        last = self.world.run(sync).json["sync_summary"]
        assert [last[name] for name in ("created", "updated", "deleted")] == [0, 0, 0]

    def assert_repaired(self, sync: str) -> None:
        """One more run, then agreement."""
        again = self.world.run(sync)
        assert again.code == 0, again.out[-3000:] + again.err[-3000:]
        assert self.agree(sync)


@contextmanager
def between(world: World, first: Server, second: Server) -> Iterator[TwoDatabases]:
    """An empty database at each server; nothing is left of them."""
    name = f"chaos_{uuid.uuid4().hex[:8]}"
    pair = partial(Side, database=name)
    sides = pair(first, name="left"), pair(second, name="right")
    try:
        yield TwoDatabases(world, sides)
    finally:
        for side in sides:
            side.proxy.__exit__(None, None, None)
            side.server.drop(name)
