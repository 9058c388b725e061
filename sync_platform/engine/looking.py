"""What the target holds of the records of a plan's part: links say which records those are, the target what they are.

The first part is looked for while Dagster notes that it was mapped, and the plan goes on from what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from sync_platform.connectors.connector import BulkTarget, TellsEmpty
from sync_platform.engine.lookups import folded_fields, match_candidates, most_telling_first, target_rows
from sync_platform.engine.reconcile import HASHED, desired_hash
from sync_platform.ledger.links import has_links, links_of
from sync_platform.meanwhile import Begun
from sync_platform.model import KEY, Stream
from sync_platform.staging.tables import exists

if TYPE_CHECKING:
    import duckdb

    from sync_platform.connectors.connector import Connector
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.matching.classes import Known
    from sync_platform.session import Session

#: Would-be creates of one part that are looked up in a staged target, too (it may lag by seconds); with more of them
#: the plan trusts what was staged a moment ago, and delivery looks each up anyway before it creates.
FOUND_AT_MOST = 1_000


@dataclass
class Target:
    """The target side while one plan is made."""

    session: Session
    spec: SyncSpec
    connector: Connector
    stream: Stream
    fields: tuple[str, ...]
    folded: set[str]
    compare: str
    con: duckdb.DuckDBPyConnection
    linked: bool
    vacant: bool  # it holds no record at all, so that nothing is looked up
    left: set[str]
    known: Known | None = None  # the staged records with the forms in which they are compared

    @classmethod
    def of(
        cls,
        session: Session,
        spec: SyncSpec,
        compare: str,
        fields: tuple[str, ...],
        con: duckdb.DuckDBPyConnection,
        left: set[str],
    ) -> Target:
        """The target of a sync as it is now; `left` are the keys of the records that are not wanted any more."""
        connector = session.connector(spec.target.connection)
        stream = connector.stream(spec.target.object)
        linked = has_links(session.database, spec)
        return cls(
            session=session,
            spec=spec,
            connector=connector,
            stream=stream,
            fields=fields,
            folded=folded_fields(connector, stream),
            compare=compare,
            con=con,
            linked=linked,
            vacant=not linked and isinstance(connector, TellsEmpty) and connector.is_empty(stream.name),
            left=left,
        )

    def rows(self, desired: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
        """The target records these desired rows may be: `_target_id`, mapped and match fields."""
        ids = links["_target_id"].to_list()
        fresh = desired.join(links.select("_key"), on="_key", how="anti")
        found = [self._staged(ids, fresh)] if self.compare == "target" else []
        seen = set(found[0]["_target_id"]) if found else set()
        missing = [one for one in ids if one not in seen]
        found.append(target_rows(self.connector, self.stream, missing, self.fields))
        on = self.spec.match
        asking = bool(on) and set(on) <= set(fresh.columns) and bool(fresh.height) and not self.vacant
        unseen = self._unseen(fresh, found[0]) if asking else fresh.clear()
        if unseen.height and (self.compare == "links" or unseen.height <= FOUND_AT_MOST):
            on = most_telling_first(on, {name: unseen[name].to_list() for name in on})
            found.append(match_candidates(self.connector, self.stream, on, unseen[on[0]].to_list(), self.fields))
        return pl.concat(found, how="diagonal_relaxed").unique("_target_id", keep="last", maintain_order=True)

    def _unseen(self, fresh: pl.DataFrame, staged: pl.DataFrame) -> pl.DataFrame:
        """The unlinked rows whose match values the staged target does not hold: asked for before a create."""
        on = self.spec.match
        if not set(on) <= set(staged.columns):
            return fresh
        values = [_folded(name).alias(f"_value:{name}") for name in on]
        known = staged.select(values).drop_nulls()
        loose = fresh.with_columns(values).join(known, on=[f"_value:{name}" for name in on], how="anti")
        return loose.drop([f"_value:{name}" for name in on])

    def _staged(self, ids: Sequence[str], fresh: pl.DataFrame) -> pl.DataFrame:
        if not exists(self.con, self.spec.target.connection, self.spec.target.object):
            return pl.DataFrame(schema={"_target_id": pl.String})
        table = f'lake."{self.spec.target.connection}"."{self.spec.target.object}"'
        present = {row[0] for row in self.con.execute(f"DESCRIBE {table}").fetchall()}
        wanted = [name for name in dict.fromkeys([*self.fields, *self.spec.match]) if name in present]
        self.con.register("_ids", pl.DataFrame({"id": list(ids)}, schema={"id": pl.String}).to_arrow())
        condition = "t._key IN (SELECT id FROM _ids)"
        if self.spec.match and fresh.height and self.spec.match[0] in present:
            on = self.spec.match[0]
            self.con.register("_values", fresh.select(_folded(on).alias("value")).drop_nulls().to_arrow())
            condition += f' OR lower(trim(CAST(t."{on}" AS VARCHAR))) IN (SELECT value FROM _values)'
        columns = ", ".join(f't."{name}"' for name in wanted)
        return self.con.execute(
            f"SELECT t._key AS _target_id, {columns} FROM {table} t WHERE NOT t._deleted AND ({condition})"
        ).pl()


def _folded(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase()


class Seen(NamedTuple):
    """What is known of the records of a part."""

    base: pl.DataFrame  # the desired records with their hashes, also as `_base`
    links: pl.DataFrame
    current: pl.DataFrame  # the target records they may be: `_target_id`, mapped and match fields


def look(target: Target, desired: pl.DataFrame, links: pl.DataFrame | None = None) -> Seen:
    """Looks at the target for these desired records; with `compare: links` not at those that are as last written.

    `links` are theirs, if they were read already.
    """
    links = links_for(target, desired[KEY]) if links is None else links
    hashes = desired[HASHED] if HASHED in desired.columns else desired_hash(desired, target.fields)
    base = desired.with_columns(hashes.alias(HASHED))
    base = base.with_columns(pl.col(HASHED).reinterpret(signed=True).alias("_base"))
    same = _equal_to_base(target, base, links)
    others, linked = base, links
    if same.height:
        others = base.join(same.select("_key"), on="_key", how="anti")
        linked = links.join(same.select("_key"), on="_key", how="anti")
    found = target.rows(others, linked)
    # what is looked for by the first of several match fields may find records that are linked and equal already
    found = found.join(same.select("_target_id"), on="_target_id", how="anti")
    return Seen(base, links, pl.concat([found, same.select("_target_id", *target.fields)], how="diagonal_relaxed"))


def links_for(target: Target, keys: pl.Series) -> pl.DataFrame:
    """The links of these source keys."""
    return links_of(target.session.database, target.spec, keys.to_list() if target.linked else [])


def _equal_to_base(target: Target, desired: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """With `compare: links`: desired rows that equal what was last written, so that nothing need be read."""
    if target.compare != "links" or links.is_empty():
        return desired.clear().with_columns(_target_id=pl.lit(None, dtype=pl.String))
    joined = desired.join(links.select("_key", "_target_id", _was="_base"), on="_key")
    return joined.filter(pl.col("_was") == pl.col("_base")).drop("_was")


def begin_to_look(
    session: Session, spec: SyncSpec, con: duckdb.DuckDBPyConnection, plan_id: str, compare: str, desired: pl.DataFrame
) -> None:
    """Begins to look at the target for a plan's first part; only a database is asked from another thread."""
    if compare != "links" or not isinstance(session.connector(spec.target.connection), BulkTarget):
        return
    fields = tuple(name for name in desired.columns if not name.startswith("_"))

    def seen(_: object) -> Seen | None:
        target = Target.of(session, spec, compare, fields, con, set())
        return look(target, desired) if target.linked else None

    session.begun[plan_id] = Begun(seen, "looking at the target")


def looked(session: Session, plan_id: str) -> Seen | None:
    """What was seen of the plan's first part; None where nobody looked, or nothing is linked.

    Raises what looking raised.
    """
    begun = session.begun.pop(plan_id, None)
    return None if begun is None else begun.result()
