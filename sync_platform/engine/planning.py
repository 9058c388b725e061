"""The middle of a run: desired against current gives the exact changes, which guards may block."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from sync_platform.connectors.connector import BulkTarget
from sync_platform.crash import crash_point
from sync_platform.engine.creating import creates_everything, fields_of, without_names
from sync_platform.engine.looking import Seen, Target, links_for, look, looked
from sync_platform.engine.lookups import target_rows
from sync_platform.engine.matching import match, refuse_bad_keys
from sync_platform.engine.reconcile import HASHED, Rules, plan, plan_left
from sync_platform.ledger.links import owners_of
from sync_platform.ledger.match_decisions import plan_was_applied
from sync_platform.ledger.plans import Plan, PlanFiles, load_plan, set_plan
from sync_platform.matching.holding import with_decisions
from sync_platform.model import KEY, Op

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from sync_platform.engine.desired import Prepared
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

FIRST_SYNC = "first sync"
#: So few invalid records never block a plan, whatever their share: each is set aside with its reason, and a sync that
#: brings one new record at a time must not stop for the first bad one.
FEW_INVALID = 10


@dataclass
class Planned:
    """What a plan contains: counts per op, and why a guard blocked it (None: it may be delivered)."""

    plan_id: str
    blocked: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)


def make_plan(session: Session, spec: SyncSpec, prepared: Prepared) -> Planned:
    """Turns a plan's desired parts into its exact changes and asks the guards; nothing is sent.

    Reads the target (staged, by id and by match key). Afterwards the plan is `ready` or `blocked`.
    """
    if spec.two_way is not None:
        from sync_platform.engine.twoway.planning import plan_both

        return plan_both(session, spec, prepared)
    session.hold(spec.name)
    with session.database.connection() as connection:
        row = load_plan(connection, prepared.plan_id)
        unknown = connection.execute(
            "SELECT source_key, reason FROM sync.held WHERE sync = %s AND kind = 'unknown'", (spec.name,)
        ).fetchall()
    files = PlanFiles(session.database.home.lake, prepared.plan_id)
    left = pl.concat(list(files.parts("left")))
    paths = files.paths("desired")
    mapped = fields_of(paths[0]) if paths else tuple(spec.mapping)
    with session.lake.connect() as con:
        target = Target.of(session, spec, row.compare, mapped, con, set(left[KEY]))
        rules = rules_of(spec, target)
        repeated = _repeated(con, files, spec, target.folded)
        doubtful = dict(unknown)

        # parts know nothing of each other; a staged target is read over a connection they would have to share, though,
        # and of the connectors only those of databases are asked from several threads
        alone = target.compare == "target" or not isinstance(target.connector, BulkTarget)

        creating = not alone and creates_everything(target, rules) and not doubtful and not repeated.height

        def write(number: int, path: Path) -> None:
            if creating and fields_of(path) == target.fields:
                refuse_bad_keys(pl.read_parquet(path, columns=[KEY]), KEY, "desired records")
                files.create_all(number, path)
                return
            seen = looked(session, prepared.plan_id) if number == 0 else None
            changes = changes_of(target, seen or look(target, pl.read_parquet(path)), rules, repeated, doubtful)
            files.write("changes", number, changes if alone else without_names(changes, rules))

        with ThreadPoolExecutor(1 if alone else 2, thread_name_prefix="planning") as workers:
            for done in [workers.submit(write, n, path) for n, path in enumerate(paths)]:
                done.result()
        if left.height:
            _write_left(target, left, rules, files)
    planned = _judge(session, spec, row, files, prepared)
    crash_point("plan_written")
    return planned


def rules_of(spec: SyncSpec, target: Target) -> Rules:
    """How this sync's desired rows are compared with the target's."""
    return Rules(
        mode=spec.mode,
        fields=target.fields,
        first_sync_hold=spec.first_sync == "match" and not plan_was_applied(target.session.database, spec),
        on_target_delete=spec.on_target_delete,
        on_leave=spec.on_leave,
        empty_is_null=target.stream.empty_is_null,
        folded=frozenset(target.folded),
    )


def _repeated(con: duckdb.DuckDBPyConnection, files: PlanFiles, spec: SyncSpec, folded: set[str]) -> pl.DataFrame:
    """The desired records that share their match values with another desired record: `_key`."""
    keys = [key for group in same_match_values(con, files, spec, folded) for key in group]
    return pl.DataFrame({"_key": keys}, schema={"_key": pl.String})


def same_match_values(
    con: duckdb.DuckDBPyConnection, files: PlanFiles, spec: SyncSpec, folded: Collection[str]
) -> list[list[str]]:
    """The keys of a plan's desired records that share their match values, a list for each such group."""
    paths = [str(path) for path in files.paths("desired")]
    if not spec.match or not paths or _surely_single(paths, spec.match, folded):
        return []
    texts = {name: f'trim(CAST("{name}" AS VARCHAR))' for name in spec.match}
    values = ", ".join(f"lower({text})" if name in folded else text for name, text in texts.items())
    known = " AND ".join(f'"{name}" IS NOT NULL' for name in spec.match)
    found = con.execute(
        f"SELECT list(_key ORDER BY _key) FROM read_parquet($1) WHERE {known} GROUP BY {values} HAVING count(*) > 1",
        [paths],
    ).fetchall()
    return [row[0] for row in found]


def _surely_single(paths: Sequence[str], match: Sequence[str], folded: Collection[str]) -> bool:
    """Whether no two desired records share their match values: a quick look at hashes, which may miss it, never err."""
    if set(folded).intersection(match):  # what is one letter to DuckDB need not be one to polars
        return False
    texts = [pl.col(name).cast(pl.String).str.strip_chars() for name in match]
    frames = (pl.read_parquet(path, columns=list(match)).drop_nulls() for path in paths)
    value = texts[0] if len(texts) == 1 else pl.struct(texts)
    hashes = pl.concat([frame.select(value.hash().alias("h"))["h"] for frame in frames])
    return hashes.n_unique() == hashes.len()


def changes_of(
    target: Target, seen: Seen, rules: Rules, repeated: pl.DataFrame, unknown: dict[str, str]
) -> pl.DataFrame:
    """The change of every desired record."""
    base, links, current = seen
    taken = links.join(base, on=KEY, how="semi")  # by these records themselves, whoever else owns them
    free = current.join(taken, on="_target_id", how="anti")["_target_id"]
    owners = owners_of(target.session.database, target.spec, free.to_list())
    owners = owners.filter(~pl.col("_key").is_in(list(target.left)))
    candidates = current.join(owners.unique("_target_id"), on="_target_id", how="left")
    linked, desired = links.select("_key", "_target_id"), base.drop("_base")
    matched = match(desired, linked, candidates, target.spec.match, target.folded)
    changes = plan(matched, current, rules)
    changes = _held(changes, repeated, "another record to be written has the same match values")
    if unknown:
        doubtful = pl.DataFrame({"_key": list(unknown)})
        changes = _held(
            changes, doubtful, "a create whose outcome is unknown; look in the target, then link or release it"
        )
    changes = with_decisions(target, changes, links)
    return changes.with_columns(pl.col(HASHED).reinterpret(signed=True).alias("_base")).pipe(_with_links, links)


def _held(changes: pl.DataFrame, keys: pl.DataFrame, reason: str) -> pl.DataFrame:
    """These records' creates and updates become holds."""
    if keys.is_empty():
        return changes
    affected = pl.col("_key").is_in(keys["_key"].to_list()) & pl.col("_op").is_in([str(Op.CREATE)])
    return changes.with_columns(
        _reason=pl.when(affected).then(pl.lit(reason)).otherwise(pl.col("_reason")),
        _op=pl.when(affected).then(pl.lit(str(Op.HOLD))).otherwise(pl.col("_op")),
    )


def _with_links(changes: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """Adds `_replaces` (the dead target id of a re-create) and `_relink` (an equal record not linked so yet)."""
    old = links.select("_key", _replaces="_target_id", _was="_base")
    joined = (
        changes.join(old, on="_key", how="left", maintain_order="left")
        if old.height
        else changes.with_columns(_replaces=pl.lit(None, dtype=pl.String), _was=pl.lit(None, dtype=pl.Int64))
    )
    return joined.with_columns(
        _relink=pl.col("_target_id").is_not_null()
        & (pl.col("_replaces").ne_missing(pl.col("_target_id")) | pl.col("_was").ne_missing(pl.col("_base")))
    ).drop("_was")


def _write_left(target: Target, left: pl.DataFrame, rules: Rules, files: PlanFiles) -> None:
    """Changes for the records that are not wanted any more."""
    links = links_for(target, left[KEY])
    linked = left.join(links.select("_key", "_target_id"), on="_key")
    if linked.is_empty():
        return
    current = target_rows(target.connector, target.stream, linked["_target_id"].to_list(), target.fields)
    changes = plan_left(linked.unique("_target_id"), current, rules, _taken_over(files))
    extra = changes.with_columns(
        _base=pl.lit(None, dtype=pl.Int64), _replaces=pl.lit(None, dtype=pl.String), _relink=pl.lit(False)
    )
    files.write("changes", len(files.paths("changes")), extra)


def _taken_over(files: PlanFiles) -> list[str]:
    """Target records that a desired record is, so that a departed one must not delete them."""
    parts = [part["_target_id"] for part in files.chosen("changes", pl.col("_target_id").is_not_null(), "_target_id")]
    return pl.concat(parts).unique().to_list() if parts else []


def _judge(session: Session, spec: SyncSpec, row: Plan, files: PlanFiles, prepared: Prepared) -> Planned:
    counts = dict.fromkeys((str(op) for op in Op), 0)
    first = 0
    for changes in files.chosen("changes", pl.lit(True), "_op", "_reason"):
        for op, number in changes.group_by("_op").len().iter_rows():
            counts[op] += number
        first += changes.filter(pl.col("_reason").str.starts_with(FIRST_SYNC).fill_null(False)).height
    digest = files.digest()
    counts[str(Op.INVALID)] = prepared.invalid
    blocked = guard_of(spec, counts, prepared)
    summary = {
        "counts": counts,
        "first_sync_held": first,
        "completeness": prepared.completeness,
        "desired": prepared.desired,
        "duplicates": prepared.duplicates,
        "parts_sha256": digest,
    }
    with session.database.connection() as connection:
        set_plan(
            connection, row.plan_id, "blocked" if blocked else "ready", reason=blocked, summary=summary,
            digest=digest,
        )  # fmt: skip
    return Planned(plan_id=row.plan_id, blocked=blocked, summary=summary)


def guard_of(spec: SyncSpec, counts: dict[str, int], prepared: Prepared) -> str | None:
    """Why the plan must not be delivered, or None."""
    removed = counts[str(Op.DELETE)] + counts[str(Op.ARCHIVE)]
    if spec.guards.max_deletes is not None and removed > spec.guards.max_deletes:
        return f"it deletes or archives {removed} records, more than max_deletes {spec.guards.max_deletes}"
    if spec.guards.max_invalid is not None and prepared.invalid >= FEW_INVALID:
        share = prepared.invalid / prepared.desired
        if share > spec.guards.max_invalid:
            return (
                f"{prepared.invalid} of {prepared.desired} records ({share:.1%}) fail the contract, "
                f"more than max_invalid {spec.guards.max_invalid:.1%}"
            )
    return None
