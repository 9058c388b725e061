"""Which source records a plan has to look at, and which of them are wanted in the target.

A change set is *closed*: besides the rows that moved past the sync's position it holds every row whose
place may have changed because of them or of time: rows sharing an old or a new dedupe key, rows whose
looked-up row moved, rows that a dated filter let in or out. Law: planning a closed change set gives
the plan that a full compare would give.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import polars as pl

from sync_platform.engine import normalisers
from sync_platform.engine.expressions import did_you_mean, parse, resolve
from sync_platform.engine.filters import Filter
from sync_platform.engine.spec import Lookup
from sync_platform.errors import ConfigError
from sync_platform.model import CURSOR, DELETED, HASH, KEY, READ_AT, SEQ

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from sync_platform.engine.spec import Keep, SyncSpec

SettledMembers = Callable[[Sequence[str]], pl.DataFrame]
TECHNICAL: Final = (KEY, HASH, SEQ, DELETED, CURSOR, READ_AT)
_LOWEST: Final = -(2**63)


@dataclass(kw_only=True)
class ChangeSet:
    """A closed change set: the wanted rows as a stream of frames, and what is not wanted any more.

    `duplicates`: `_key`, `_winner_key`, `_dedupe_key`, `_changed`, one row per record another one speaks for.
    `left`: `_key`, `_why` (deleted | filter | duplicate), `_changed`: rows of the set that are not wanted.
    `counts`: `closed`, `winners`, `duplicates`, `left`, and `missing` (extra keys that are not staged).
    It reads through a cursor of its own, so the caller's connection stays free; close it when done.
    """

    duplicates: pl.DataFrame
    left: pl.DataFrame
    counts: Mapping[str, int]
    full: bool
    _con: duckdb.DuckDBPyConnection = field(repr=False)
    _winners_sql: str = field(repr=False)
    _desired_sql: str = field(repr=False)

    def frames(self, batch_rows: int = 50_000) -> Iterator[pl.DataFrame]:
        """The wanted rows in batches, by key: all staged columns, `_dedupe_key` (null without one) and `_changed`.

        `_changed`: the row itself moved past the position, came into or left the filter as time passed, or is
        an extra key; False for rows only pulled in by others.
        """
        reader = self._con.execute(self._winners_sql).to_arrow_reader(batch_rows)
        for batch in reader:
            if batch.num_rows:
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame

    def desired_keys(self, keys: Sequence[str]) -> pl.Series:
        """Which of these source keys are wanted in the target (inside the filter, not deleted, no duplicate)."""
        _put_keys(self._con, "asked", keys)
        return self._con.execute(self._desired_sql).pl()[KEY]

    def close(self) -> None:
        """Frees the cursor and its temporary tables."""
        self._con.close()

    def __enter__(self) -> ChangeSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_change_set(
    con: duckdb.DuckDBPyConnection,
    spec: SyncSpec,
    *,
    positions: Mapping[str, int],
    evaluated_at: dt.datetime | None,
    now: dt.datetime,
    extra_keys: Sequence[str] = (),
    full: bool = False,
    settled_members: SettledMembers | None = None,
    newer: pa.Table | None = None,
) -> ChangeSet:
    """The closed change set of a sync since `positions` ("<connection>/<object>" -> `_seq`).

    `evaluated_at` is when the last delivered plan was made (dated filters), `extra_keys` are source keys to
    look at anyway, `settled_members(keys)` gives `source_key`, `dedupe_key` as last settled. What can't be
    known (no position, no `evaluated_at` for a dated filter, no settled members for a dedupe) makes it full.
    `newer`: source rows that stand in for the staged ones (see `staging.overlay`); the set holds them all.
    On DuckLake every read is pinned to one snapshot. Raises ConfigError: source or looked-up stream not
    staged, or an expression that does not fit it.
    """
    own = con.cursor()
    own.execute("SET TimeZone = 'UTC'")
    if newer is not None:
        _put(own, "newer", newer)
        extra_keys = [*extra_keys, *newer[KEY].to_pylist()]
    source = _Source.open(con, own, spec, now, evaluated_at, laid_over=newer is not None)
    position = positions.get(str(spec.source), 0)
    everything = (
        full
        or position <= 0
        or (source.filter is not None and source.filter.dated and evaluated_at is None)
        or (spec.dedupe is not None and settled_members is None)
    )
    _put_keys(own, "extra", extra_keys)
    if everything:
        scope = (
            f"SELECT *, ({SEQ} > {position} OR {source.flipped} OR {KEY} IN (SELECT {KEY} FROM extra)) AS _changed "
            f"FROM {source.table}"
        )
    else:
        _pull(own, source, spec, positions, position)
        if settled_members is not None and source.dedupe_key:
            _pull_members(own, source, position, settled_members)
        scope = _incremental(own, source, position)
    return _closed(own, source, scope, full=everything)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The source table of one sync and its conditions as SQL text."""

    table: str
    schema: pa.Schema
    filter: Filter | None
    inside: str  # not deleted and the filter is TRUE now
    flipped: str  # time alone moved the row across the filter
    dedupe_key: str | None  # SQL giving the dedupe key as text; null for none
    best: str  # SQL aggregate: the key of the row that speaks for its group
    tables: Callable[[str, str], tuple[str, pa.Schema]] = field(repr=False)

    @classmethod
    def open(
        cls,
        con: duckdb.DuckDBPyConnection,
        own: duckdb.DuckDBPyConnection,
        spec: SyncSpec,
        now: dt.datetime,
        evaluated_at: dt.datetime | None,
        *,
        laid_over: bool,
    ) -> _Source:
        pin = _snapshot(con)

        def tables(connection: str, name: str) -> tuple[str, pa.Schema]:
            return _staged(own, spec, connection, name, pin)

        table, schema = tables(spec.source.connection, spec.source.object)
        if laid_over:
            table = f"(SELECT * FROM {table} ANTI JOIN newer USING ({KEY}) UNION ALL BY NAME SELECT * FROM newer)"
        fields = [f for f in schema if f.name not in TECHNICAL]
        names = [f.name for f in fields]
        condition = Filter.parse(spec.filter, schema) if spec.filter else None
        inside = flipped = "FALSE"
        alive = f"NOT coalesce({DELETED}, FALSE)"
        if condition:
            is_in = f"(({condition.duckdb(now, spec.timezone)}) IS TRUE)"
            if condition.dated and evaluated_at:
                was_in = f"(({condition.duckdb(evaluated_at, spec.timezone)}) IS TRUE)"
                flipped = f"({alive} AND {is_in} <> {was_in})"
            inside = f"({alive} AND {is_in})"
        else:
            inside = alive
        return cls(
            table=table,
            schema=schema,
            filter=condition,
            inside=inside,
            flipped=flipped,
            dedupe_key=text_key_sql(spec.dedupe.by, names, "dedupe key") if spec.dedupe else None,
            best=best_sql(spec.dedupe.keep if spec.dedupe else "newest", names),
            tables=tables,
        )


def _snapshot(con: duckdb.DuckDBPyConnection) -> str:
    """The clause that pins a read to the lake's snapshot of now; empty where there are no snapshots."""
    row = con.execute("SELECT type FROM duckdb_databases() WHERE database_name = 'lake'").fetchone()
    if not row or row[0] != "ducklake":
        return ""
    version = con.execute("SELECT id FROM ducklake_current_snapshot('lake')").fetchone()
    return f" AT (VERSION => {int(version[0])})" if version else ""


def _staged(
    own: duckdb.DuckDBPyConnection, spec: SyncSpec, connection: str, name: str, pin: str
) -> tuple[str, pa.Schema]:
    """The staged table's SQL name and its schema; ConfigError while there is none."""
    found = own.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = ? AND table_name = ?",
        [connection, name],
    ).fetchone()
    if not found:
        raise ConfigError(
            f"{spec.name}: {connection}/{name} is not staged yet",
            field="source",
            value=f"{connection}/{name}",
            mend=f"load it first: sync-platform run {spec.name}",
        )
    table = f"(SELECT * FROM lake.{_quoted(connection)}.{_quoted(name)}{pin})"  # an alias may not follow AT
    return table, own.execute(f"SELECT * FROM {table} LIMIT 0").to_arrow_table().schema


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def text_key_sql(sql: str, names: Sequence[str], what: str) -> str:
    """A key expression as DuckDB SQL giving text; empty text is no key."""
    scalar = parse(sql, names, what=what, before=normalisers.for_duckdb, functions=normalisers.NAMES)
    return f"nullif(CAST(({scalar.sql('duckdb')}) AS VARCHAR), '')"


def key_fields(sql: str, names: Sequence[str]) -> tuple[str, ...]:
    """The fields a key expression reads."""
    return parse(sql, names, what="key", before=normalisers.for_duckdb, functions=normalisers.NAMES).fields


def best_sql(keep: Keep, names: Sequence[str]) -> str:
    """The aggregate that picks a group's winner: by the keep rule, then cursor, then key."""
    if keep == "oldest":
        return f"arg_min({KEY}, {{'c': coalesce({CURSOR}, {2**63 - 1}), 'k': {KEY}}})"
    newest = f"'c': coalesce({CURSOR}, {_LOWEST}), 'k': {KEY}"
    if keep == "newest" or not names:
        return f"arg_max({KEY}, {{{newest}}})"
    filled = " + ".join(f"CAST({_quoted(name)} IS NOT NULL AS INTEGER)" for name in names)
    return f"arg_max({KEY}, {{'f': {filled}, {newest}}})"


def _put_keys(own: duckdb.DuckDBPyConnection, table: str, keys: Sequence[str]) -> None:
    frame = pl.DataFrame({KEY: pl.Series(list(keys), dtype=pl.String)}).unique()
    _put(own, table, frame)


def _put(own: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame | pa.Table) -> None:
    own.register("_given", frame.to_arrow() if isinstance(frame, pl.DataFrame) else frame)
    own.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM _given")
    own.unregister("_given")


def _pull(
    own: duckdb.DuckDBPyConnection, source: _Source, spec: SyncSpec, positions: Mapping[str, int], position: int
) -> None:
    """Fills `pulled(_key, own)` with unmoved rows that time, extra keys or look-ups bring into the set."""
    own.execute(f"CREATE OR REPLACE TEMP TABLE pulled ({KEY} VARCHAR, own BOOLEAN)")
    unmoved = f"{SEQ} <= {position}"
    if source.flipped != "FALSE":
        own.execute(f"INSERT INTO pulled SELECT {KEY}, TRUE FROM {source.table} WHERE {unmoved} AND {source.flipped}")
    if _one(own, "SELECT count(*) FROM extra"):
        own.execute(
            f"INSERT INTO pulled SELECT {KEY}, TRUE FROM {source.table} "
            f"WHERE {unmoved} AND {KEY} IN (SELECT {KEY} FROM extra)"
        )
    names = [f.name for f in source.schema if f.name not in TECHNICAL]
    for rule in spec.mapping.values():
        if isinstance(rule, Lookup):
            on = text_key_sql(rule.on, names, "lookup key")
            moved = _moved_lookup_keys(own, source, rule, positions.get(f"{rule.connection}/{rule.object}", 0))
            if moved is None:  # what the moved rows were called before is not known
                own.execute(
                    f"INSERT INTO pulled SELECT {KEY}, FALSE FROM {source.table} WHERE {unmoved} AND {on} IS NOT NULL"
                )
            elif moved:
                own.execute(
                    f"INSERT INTO pulled SELECT {KEY}, FALSE FROM {source.table} "
                    f"WHERE {unmoved} AND {on} IN (SELECT {KEY} FROM moved)"
                )


def _moved_lookup_keys(own: duckdb.DuckDBPyConnection, source: _Source, rule: Lookup, position: int) -> int | None:
    """Fills `moved(_key)` with the keys of looked-up rows past the position; how many.

    None when the look-up is not by the stream's own key: a row may have been found under another key before.
    """
    table, schema = source.tables(rule.connection, rule.object)
    names = [name for name in schema.names if name not in TECHNICAL]
    found = resolve(rule.key, names)
    if found is None:
        raise ConfigError(
            f"the lookup in {rule.connection}/{rule.object} uses a field that does not exist: {rule.key}",
            field=rule.key,
            value=rule.key,
            mend=did_you_mean(rule.key, names),
        )
    key = f"CAST({_quoted(found)} AS VARCHAR)"
    own.execute(
        f"CREATE OR REPLACE TEMP TABLE moved AS SELECT {KEY}, {key} IS DISTINCT FROM {KEY} AND {key} IS NOT NULL "
        f"AS other FROM {table} WHERE {SEQ} > {position}"
    )
    if _one(own, "SELECT count(*) FROM moved WHERE other"):
        return None
    return _one(own, "SELECT count(*) FROM moved")


def _pull_members(
    own: duckdb.DuckDBPyConnection, source: _Source, position: int, settled_members: SettledMembers
) -> None:
    """Adds to `pulled` the rows that share an old or new dedupe key with a row of the set."""
    keyed = f"SELECT {KEY}, {source.dedupe_key} AS dkey FROM {source.table}"
    own.execute(
        f"CREATE OR REPLACE TEMP TABLE touched AS {keyed} WHERE {SEQ} > {position} "
        f"UNION {keyed} WHERE {SEQ} <= {position} AND {KEY} IN (SELECT {KEY} FROM pulled)"
    )
    keys = own.execute(f"SELECT {KEY} FROM touched").pl()[KEY].to_list()
    if not keys:
        return
    _put(own, "settled", settled_members(keys).select(pl.col("dedupe_key").cast(pl.String)).drop_nulls().unique())
    own.execute(
        f"INSERT INTO pulled SELECT {KEY}, FALSE FROM ({keyed} WHERE {SEQ} <= {position} AND {source.inside}) "
        "WHERE dkey IN (SELECT dkey FROM touched UNION SELECT dedupe_key FROM settled)"
    )


def _incremental(own: duckdb.DuckDBPyConnection, source: _Source, position: int) -> str:
    """The closed set as SQL: the moved rows (found by `_seq` alone) and the pulled ones."""
    moved = f"SELECT *, TRUE AS _changed FROM {source.table} WHERE {SEQ} > {position}"
    own.execute(f"CREATE OR REPLACE TEMP TABLE pulled AS SELECT {KEY}, bool_or(own) AS own FROM pulled GROUP BY {KEY}")
    if not _one(own, "SELECT count(*) FROM pulled"):
        return moved
    return (
        f"{moved} UNION ALL SELECT s.*, p.own FROM {source.table} s JOIN pulled p ON s.{KEY} = p.{KEY} "
        f"WHERE s.{SEQ} <= {position}"
    )


def _closed(own: duckdb.DuckDBPyConnection, source: _Source, scope: str, *, full: bool) -> ChangeSet:
    """Sorts the closed set into winners, duplicates and left."""
    dedupe = source.dedupe_key or "CAST(NULL AS VARCHAR)"
    if source.dedupe_key:
        own.execute(
            f"CREATE OR REPLACE TEMP TABLE losers AS WITH scope AS ({scope}), "
            f"inside AS (SELECT *, {dedupe} AS _dedupe_key FROM scope WHERE {source.inside} AND {dedupe} IS NOT NULL), "
            f"groups AS (SELECT _dedupe_key, {source.best} AS winner FROM inside GROUP BY 1 HAVING count(*) > 1) "
            f"SELECT i.{KEY}, g.winner AS _winner_key, i._dedupe_key, i._changed "
            f"FROM inside i JOIN groups g USING (_dedupe_key) WHERE i.{KEY} <> g.winner"
        )
    else:
        own.execute(
            f"CREATE OR REPLACE TEMP TABLE losers ({KEY} VARCHAR, _winner_key VARCHAR, _dedupe_key VARCHAR, "
            "_changed BOOLEAN)"
        )
    duplicates = own.execute(f"SELECT * FROM losers ORDER BY {KEY}").pl()
    left = own.execute(
        f"SELECT {KEY}, CASE WHEN coalesce({DELETED}, FALSE) THEN 'deleted' ELSE 'filter' END AS _why, _changed "
        f"FROM ({scope}) WHERE NOT {source.inside} UNION ALL SELECT {KEY}, 'duplicate', _changed FROM losers"
    ).pl()
    inside = _one(own, f"SELECT count(*) FROM ({scope}) WHERE {source.inside}")
    missing = _one(own, f"SELECT count(*) FROM extra ANTI JOIN {source.table} USING ({KEY})")
    without_losers = f" AND {KEY} NOT IN (SELECT {KEY} FROM losers)" if duplicates.height else ""
    return ChangeSet(
        duplicates=duplicates,
        left=left,
        counts={
            "closed": inside + left.height - duplicates.height,
            "winners": inside - duplicates.height,
            "duplicates": duplicates.height,
            "left": left.height,
            "missing": missing,
        },
        full=full,
        _con=own,
        _winners_sql=(  # by key, the order in which the ledger's indexes grow fastest
            f"SELECT * EXCLUDE (_changed), {dedupe} AS _dedupe_key, _changed FROM ({scope}) "
            f"WHERE {source.inside}{without_losers} ORDER BY {KEY}"
        ),
        _desired_sql=_desired_sql(source, dedupe),
    )


def _desired_sql(source: _Source, dedupe: str) -> str:
    """SQL giving those keys of the temporary table `asked` that are wanted."""
    keyed = f"SELECT *, {dedupe} AS _dedupe_key FROM {source.table} WHERE {source.inside}"
    return (
        f"WITH inside AS ({keyed}), mine AS (SELECT {KEY}, _dedupe_key FROM inside "
        f"WHERE {KEY} IN (SELECT {KEY} FROM asked)), "
        f"groups AS (SELECT _dedupe_key, {source.best} AS winner FROM inside "
        "WHERE _dedupe_key IN (SELECT _dedupe_key FROM mine) GROUP BY 1) "
        f"SELECT m.{KEY} FROM mine m LEFT JOIN groups g ON m._dedupe_key = g._dedupe_key "
        f"WHERE m._dedupe_key IS NULL OR g.winner = m.{KEY} ORDER BY m.{KEY}"
    )


def _one(own: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = own.execute(sql).fetchone()
    return int(row[0]) if row else 0
