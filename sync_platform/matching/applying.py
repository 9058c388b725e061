"""Decisions take effect: accepted pairs become links, the rest is remembered for the next plans. All or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from sync_platform.engine.matching import TARGET_ID
from sync_platform.ledger.audit import seal
from sync_platform.ledger.links import links_of, owners_of
from sync_platform.ledger.match_decisions import look_again, record_decisions, record_plan
from sync_platform.ledger.settle import settle, settled_frame
from sync_platform.matching.decisions import ACCEPT, CREATE, MATCHES, REJECT, UNDECIDED
from sync_platform.model import KEY, Op, Status
from sync_platform.staging.tables import exists

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint, SyncSpec
    from sync_platform.session import Session

LANE: Final = "match"
_WAITS: Final = "decided: the next run writes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What came of a file of decisions. `refused`: pairs that could not be linked, each with its reason."""

    linked: int
    create: int
    undecided: int
    refused: list[dict[str, str | None]]


def apply_decisions(session: Session, spec: SyncSpec, rows: pl.DataFrame, *, by_hand: bool = False) -> Applied:
    """Links what is accepted and remembers every decision of these rows (`decisions.MATCHES`).

    `by_hand`: a single link rather than the sync's match plan (whether creates wait for that stays as it is), to a
    target record that was just read.
    """
    session.hold(spec.name)
    wanted = rows.filter(pl.col("decision") == ACCEPT)
    links = links_of(session.database, spec, wanted["source_key"].to_list())
    links = links.select(source_key=KEY, _linked=TARGET_ID)
    owners = owners_of(session.database, spec, wanted["target_id"].to_list())
    owners = owners.select(target_id=TARGET_ID, _owner=KEY)
    told = wanted.join(links, on="source_key", how="left").join(owners, on="target_id", how="left")
    told = told.with_columns(_why=_why_not(session, spec, asked=by_hand))
    done = (pl.col("_linked") == pl.col("target_id")) & pl.col("_owner").is_not_null()
    refused = told.filter(~done.fill_null(False) & pl.col("_why").is_not_null())
    fresh = told.filter(~done.fill_null(False) & pl.col("_why").is_null())
    sound = rows.join(refused, on=["source_key", "target_id"], how="anti", nulls_equal=True)
    create = sound.filter(pl.col("decision") == CREATE)["source_key"].to_list()
    _store(session, spec, fresh, sound, create, by_hand)
    decided = sound.filter(pl.col("decision").is_in([ACCEPT, CREATE]))
    waiting = sound.filter(pl.col("decision") == UNDECIDED).join(decided, on="source_key", how="anti")
    return Applied(
        linked=fresh.height,
        create=len(create),
        undecided=waiting["source_key"].n_unique(),
        refused=[
            {"key": key, "target_id": target, "reason": why}
            for key, target, why in refused.select("source_key", "target_id", "_why").iter_rows()
        ],
    )


def _why_not(session: Session, spec: SyncSpec, *, asked: bool) -> pl.Expr:
    """Why a pair cannot be linked, or null. Columns: `source_key`, `target_id`, `_linked`, `_owner`.

    `asked`: the target itself said that the record is there; staging may lag behind.
    """
    sources = _staged_keys(session, spec.source)
    targets = None if asked else _staged_keys(session, spec.target)
    gone = pl.lit(False) if targets is None else ~pl.col("target_id").is_in(targets.implode())
    unknown = pl.lit(False) if sources is None else ~pl.col("source_key").is_in(sources.implode())
    other = pl.col("_linked").is_not_null() & (pl.col("_linked") != pl.col("target_id"))
    return (
        pl.when(unknown).then(pl.lit("the source record is not there any more"))
        .when(gone).then(pl.lit("the target record is not there any more"))
        .when(other).then(pl.concat_str(pl.lit("the source record is linked to "), "_linked"))
        .when(pl.col("_owner").is_not_null() & (pl.col("_owner") != pl.col("source_key")))
        .then(pl.concat_str(pl.lit("the target record is linked to "), "_owner"))
        .otherwise(pl.lit(None, dtype=pl.String))
    )  # fmt: skip


def _staged_keys(session: Session, endpoint: Endpoint) -> pl.Series | None:
    """The keys of the staged records; None where the stream is not staged."""
    with session.lake.connect() as con:
        if not exists(con, endpoint.connection, endpoint.object):
            return None
        table = f'lake."{endpoint.connection}"."{endpoint.object}"'
        return con.execute(f"SELECT _key FROM {table} WHERE NOT _deleted").pl()["_key"]


def break_link(session: Session, spec: SyncSpec, key: str) -> str | None:
    """Breaks a record's link and remembers that these two are not the same; the target id, None without a link."""
    session.hold(spec.name)
    with session.database.connection() as connection:
        row = connection.execute(
            "DELETE FROM sync.links WHERE sync = %s AND source_key = %s RETURNING target_id", (spec.name, key)
        ).fetchone()
        if row is None:
            return None
        target_id = str(row[0])
        connection.execute(
            """INSERT INTO sync.outcomes (sync, run_id, lane, source_key, target_id, op, status, reason)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
            (spec.name, session.run_id, LANE, key, target_id, str(Op.SKIP), str(Status.NOOP),
             f"the link to {target_id} was broken by hand"),
        )  # fmt: skip
        said = {"source_key": key, "target_id": target_id, "decision": REJECT, "evidence": "by hand"}
        record_decisions(connection, spec, pl.DataFrame([said], schema=MATCHES), session.run_id)
        look_again(connection, spec, [key], "its link was broken by hand")
        seal(connection, spec.name, session.run_id)
    return target_id


def _store(
    session: Session, spec: SyncSpec, fresh: pl.DataFrame, sound: pl.DataFrame, create: list[str], by_hand: bool
) -> None:
    how = "linked by hand" if by_hand else "matched"
    with session.database.connection() as connection:
        if fresh.height:
            settle(connection, spec, linked_rows(fresh, how), run_id=session.run_id, plan_id=session.run_id, lane=LANE)
        record_decisions(connection, spec, sound, session.run_id)
        if not by_hand:
            record_plan(connection, spec, session.run_id)
        look_again(connection, spec, [*fresh["source_key"], *create], _WAITS)
        seal(connection, spec.name, session.run_id)


def linked_rows(pairs: pl.DataFrame, how: str = "matched") -> pl.DataFrame:
    """Pairs (`source_key`, `target_id`, `class`, `evidence`) as they are settled: a link, and an outcome saying why."""
    return settled_frame(
        [
            {
                "source_key": key, "target_id": target, "op": str(Op.SKIP), "status": str(Status.NOOP),
                "reason": f"{how} with {target}" + (f" ({name}: {why})" if name and why else ""),
            }
            for key, target, name, why in pairs.select("source_key", "target_id", "class", "evidence").iter_rows()
        ]
    )  # fmt: skip
