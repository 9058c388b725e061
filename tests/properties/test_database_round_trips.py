"""Rows of every type go source -> target -> source unchanged, or `check` tells the loss before anything runs.

The way is the platform's own: read by the source's connector, brought into the lake's types, through DuckDB, mapped
into the target's types, written by the target's connector; and the same way back into a table like the first.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sync_platform.connectors.mysql import MySQL
from sync_platform.connectors.postgres import Postgres
from sync_platform.engine.losses import mapping_losses
from sync_platform.engine.mapping import CompiledMapping, compile_mapping
from sync_platform.engine.spec import Endpoint, Expression, SyncSpec
from sync_platform.errors import ContractError
from sync_platform.staging.canonical import canonical, fit
from tests.private_mariadb import shared
from tests.private_postgres import PrivateServer
from tests.properties.kinds import MARIADB, POSTGRES, POSTGRES_OTHERS, POSTGRES_TYPES, Kind, same

TABLE = "things"
#: The message names every value that went wrong: nothing need be made smaller.
NOT_SHRUNK = [Phase.explicit, Phase.reuse, Phase.generate]
UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
Value = tuple[str, Any]  # the column and what is in it


@dataclass
class PostgresSide:
    """A table of a PostgreSQL database, as a person sees it."""

    url: str
    columns: Mapping[str, str]
    connector: Postgres = field(init=False)

    def __post_init__(self) -> None:
        self.db = psycopg.connect(self.url, autocommit=True, prepare_threshold=None)
        self.connector = Postgres(url=self.url)
        for statement in (*POSTGRES_TYPES, *POSTGRES_OTHERS):
            self.db.execute(statement.encode())
        told = ", ".join(f'"{name}" {kind}' for name, kind in self.columns.items())
        self.db.execute(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, {told})".encode())

    def fill(self, rows: Mapping[int, Value]) -> None:
        self.db.execute(f"TRUNCATE {TABLE}".encode())
        for number, (name, value) in rows.items():
            kind = self.columns[name]
            sql = f'INSERT INTO {TABLE} (id, "{name}") VALUES (%s, %s::text::{kind})'
            self.db.execute(sql.encode(), [number, str(value)])

    def values(self, name: str) -> dict[int, Any]:
        """What the column holds, as the server prints it."""
        number = self.columns[name] in ("real", "double precision")
        shown = f'"{name}"' if number else f'"{name}"::text'
        sql = f'SELECT id, {shown} FROM {TABLE} WHERE "{name}" IS NOT NULL'
        return dict(self.db.execute(sql.encode()).fetchall())

    def close(self) -> None:
        self.connector.close()
        self.db.close()


@dataclass
class MariaSide:
    """A table of a MariaDB database, as a person sees it."""

    database: str
    columns: Mapping[str, str]
    connector: MySQL = field(init=False)

    def __post_init__(self) -> None:
        self.connector = MySQL(url=shared().create(self.database))
        self.db = shared().person(self.database)
        told = ", ".join(f"`{name}` {kind}" for name, kind in self.columns.items())
        self._run("SET time_zone = '+00:00'")
        self._run(f"CREATE TABLE {TABLE} (id INT PRIMARY KEY, {told}) ROW_FORMAT=DYNAMIC")

    def _run(self, sql: str, values: Any = None) -> Any:
        with self.db.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    def fill(self, rows: Mapping[int, Value]) -> None:
        self._run(f"DELETE FROM {TABLE}")
        for number, (name, value) in rows.items():
            self._run(f"INSERT INTO {TABLE} (id, `{name}`) VALUES (%s, %s)", (number, value))

    def values(self, name: str) -> dict[int, Any]:
        """What the column holds, as the driver gives it; texts and times to the byte."""
        kind = self.columns[name].split("(")[0].split(" ")[0]
        shown = f"(`{name}` + 0e0)" if kind in ("FLOAT", "DOUBLE") else f"HEX(`{name}`)"
        return dict(self._run(f"SELECT id, {shown} FROM {TABLE} WHERE `{name}` IS NOT NULL"))

    def close(self) -> None:
        self.connector.close()
        self.db.close()


Side = PostgresSide | MariaSide


@dataclass
class Route:
    """From a table through one of another database into a table like the first."""

    kinds: Mapping[str, Kind]
    first: Side
    middle: Side
    last: Side

    def told(self, name: str) -> list[str]:
        """What `check` says about the column, there and back."""
        pairs = ((self.first, self.middle), (self.middle, self.last))
        return [loss for source, target in pairs for loss in _losses(source, target, name)]

    def travel(self, rows: Mapping[int, Value]) -> dict[int, str]:
        """Sends rows there and back; what was refused or changed on the way, by row."""
        for side, given_rows in ((self.first, rows), (self.middle, {}), (self.last, {})):
            side.fill(given_rows)
        names = list(dict.fromkeys(name for name, _ in rows.values()))
        refused: dict[int, str] = {}
        for source, target in ((self.first, self.middle), (self.middle, self.last)):
            schema = source.connector.discover(TABLE)
            texts = [name for name in names if pa.types.is_string(schema.field(name).type)]
            for group in (texts, [name for name in names if name not in texts]):  # the second by binary COPY
                refused |= _sent(source, target, group)
        for name in names:
            found, before = self.last.values(name), self.first.values(name)
            for number, value in before.items():
                if number not in refused and not (number in found and same(found[number], value)):
                    refused[number] = f"{value!r} became {found.get(number)!r}"
        return refused


def _mapping(source: Side, target: Side, names: Sequence[str]) -> CompiledMapping:
    spec = SyncSpec(
        name="things",
        source=Endpoint(connection="a", object=TABLE),
        target=Endpoint(connection="b", object=TABLE),
        mapping={name: Expression(sql=name) for name in ("id", *names)},
        match=("id",),
    )
    return compile_mapping(spec, source.connector.discover(TABLE), target.connector.discover(TABLE))


def _losses(source: Side, target: Side, name: str) -> list[str]:
    given_columns, wanted = source.connector.discover(TABLE), target.connector.discover(TABLE)
    return list(mapping_losses(_mapping(source, target, [name]).rules, given_columns, wanted))


def _sent(source: Side, target: Side, names: Sequence[str]) -> dict[int, str]:
    """Sends rows of these columns as the engine does; why some were refused."""
    if not names:
        return {}
    try:
        table = pa.concat_tables(page.table for page in source.connector.read(TABLE, fields=names))
    except ContractError as error:
        if len(names) == 1:
            return dict.fromkeys(source.values(names[0]), str(error))
        return {number: why for name in names for number, why in _sent(source, target, [name]).items()}
    filled = [pc.is_valid(table[name]) for name in names]
    table = table.filter(functools.reduce(pc.or_, filled))
    if not table.num_rows:
        return {}
    part, refused = _mapped(table, _mapping(source, target, names))
    told = target.connector.write_bulk(TABLE, "create", part, uuid.uuid4().hex)
    refused |= {int(r["_key"]): r["_reason"] for r in told.to_pylist() if r["_status"] != "applied"}
    again = part.drop_columns(["id", "_target_id"]).append_column("_target_id", part["_key"].cast(pa.string()))
    kept = [row for row, key in enumerate(part["_key"].to_pylist()) if int(key) not in refused]
    told = target.connector.write_bulk(TABLE, "update", again.take(pa.array(kept, pa.int64())), uuid.uuid4().hex)
    assert set(told["_status"].to_pylist()) <= {"noop"}, told.to_pylist()  # to the byte what is there already
    _held_to_what_was(target, again.take(pa.array(kept, pa.int64())))
    return refused


def _held_to_what_was(target: Side, part: pa.Table) -> None:
    """An update takes place where the values that were read are still there, and only there."""
    names = [name for name in part.column_names if not name.startswith("_")]
    if not part.num_rows:
        return
    read = target.connector.get(TABLE, part["_target_id"].to_pylist(), names)
    place = pa.array([read["id"].cast(pa.string()).to_pylist().index(key) for key in part["_target_id"].to_pylist()])
    now = read.take(place).select(names)
    told = target.connector.update_unmoved(TABLE, part, now, uuid.uuid4().hex)
    assert "refused" not in told["_status"].to_pylist(), told.to_pylist()
    other = now.take(pa.array([*range(1, part.num_rows), 0]))
    told = target.connector.update_unmoved(TABLE, part, other, uuid.uuid4().hex)
    for row, one, two in zip(told.to_pylist(), now.to_pylist(), other.to_pylist(), strict=True):
        unlike = any(a != b and not (a != a and b != b) for a, b in zip(one.values(), two.values(), strict=True))
        assert (row["_status"] == "refused") == unlike, (row, one, two)


def _mapped(table: pa.Table, mapping: CompiledMapping) -> tuple[pa.Table, dict[int, str]]:
    """Rows as they were read, through the lake's types, DuckDB and the mapping; and the rows that it set aside."""
    types = {f.name: kind for f in table.schema if (kind := canonical(f.type)) is not None}
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("page", fit(table.replace_schema_metadata(), types, TABLE))
        con.execute("CREATE TABLE staged AS SELECT *, id::VARCHAR AS _key FROM page")
        done = mapping.apply(con.execute("SELECT * FROM staged").pl())
    bad = done.filter(pl.col("_unmapped").is_not_null())
    part = done.filter(pl.col("_unmapped").is_null()).select("_key", *mapping.fields).to_arrow()
    nothing = pa.nulls(part.num_rows, pa.string())
    return part.append_column("_target_id", nothing), {r["id"]: str(r["_unmapped"]) for r in bad.to_dicts()}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PrivateServer]:
    with PrivateServer() as server:
        yield server


@pytest.fixture(scope="module")
def routes(postgres: PrivateServer) -> Iterator[Callable[[str], Route]]:
    """The four routes, made when they are asked for."""
    made: dict[str, Route] = {}

    def side(system: str, name: str, columns: Mapping[str, str]) -> Side:
        return PostgresSide(postgres.create(name), columns) if system == "postgres" else MariaSide(name, columns)

    def route(which: str) -> Route:
        if which not in made:
            here, there = which.split("-")
            kinds = POSTGRES if here == "postgres" else MARIADB
            own = {name: kind.column for name, kind in kinds.items()}
            others = own if here == there else {name: kind.other for name, kind in kinds.items()}
            parts = zip((here, there, here), (own, others, own), strict=True)
            sides = [side(system, f"{which}_{i}".replace("-", "_"), told) for i, (system, told) in enumerate(parts)]
            made[which] = Route(kinds, *sides)
        return made[which]

    yield route
    for one in made.values():
        for end in (one.first, one.middle, one.last):
            end.close()


WHICH = ("postgres-postgres", "mariadb-mariadb", "postgres-mariadb", "mariadb-postgres")


def drawn(data: st.DataObject, kinds: Mapping[str, Kind], values: Callable[[Kind], Any]) -> dict[int, Value]:
    found: list[Value] = []
    for name, kind in kinds.items():
        found += [(name, value) for value in data.draw(st.lists(values(kind), min_size=1, max_size=3), label=name)]
    return dict(enumerate(found))


@pytest.mark.parametrize("which", WHICH)
@settings(max_examples=6, deadline=None, suppress_health_check=UNHURRIED, phases=NOT_SHRUNK)
@given(data=st.data())
def test_usual_values_of_every_type_come_back_unchanged(
    routes: Callable[[str], Route], which: str, data: st.DataObject
) -> None:
    route = routes(which)
    rows = drawn(data, route.kinds, lambda kind: kind.usual)
    refused = route.travel(rows)
    assert {rows[number]: why for number, why in refused.items()} == {}


@pytest.mark.parametrize("which", WHICH)
def test_odd_values_come_back_unchanged_or_their_loss_is_told(routes: Callable[[str], Route], which: str) -> None:
    route = routes(which)
    rows = {n: one for n, one in enumerate((name, odd) for name, kind in route.kinds.items() for odd in kind.odd)}
    refused = route.travel(rows)
    assert len(refused) < len(rows)
    silent = {rows[number]: why for number, why in refused.items() if not route.told(rows[number][0])}
    assert silent == {}
