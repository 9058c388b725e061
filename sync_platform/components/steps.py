"""The three steps of a sync as Dagster runs them: call the engine, then tell what it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sync_platform.components.checked import freshness, quality, report_metadata
from sync_platform.components.frequency import next_tick
from sync_platform.components.pictures import runs_picture
from sync_platform.engine.deliver import deliver
from sync_platform.engine.desired import Prepared, lineage_of, prepare, prepared_of
from sync_platform.engine.planning import make_plan
from sync_platform.engine.recover import recover
from sync_platform.engine.spec import SyncSpec
from sync_platform.errors import BlockedError, ConfigError
from sync_platform.ledger.plans import PlanFiles, latest_plan
from sync_platform.run_tags import EVERY_RECORD, EXACT, FULL, PLAN_ID
from sync_platform.session import Session


def desired(session: Session, spec: SyncSpec, tags: Mapping[str, str]) -> dg.MaterializeResult[Any]:
    """Materialises `<sync>/desired`: what the target should hold."""
    session.hold(spec.name)
    recover(session, spec)
    session.progress(f"{spec.name}: mapping, deduplicating and checking")
    with session.timed("transform"):
        every = tags.get(FULL) == EVERY_RECORD or (FULL in tags and spec.two_way is not None)
        found = prepare(session, spec, full=every)
    lineage = {
        target: [
            dg.TableColumnDep(asset_key=dg.AssetKey(["staging", *place]), column_name=name) for *place, name in deps
        ]
        for target, deps in lineage_of(session, spec).items()
    }
    return dg.MaterializeResult(
        metadata={
            "plan_id": found.plan_id,
            "desired": found.desired,
            "invalid": found.invalid,
            "duplicates_skipped": found.duplicates,
            "left": found.left,
            "completeness": found.completeness,
            "dagster/column_lineage": dg.TableColumnLineage(deps_by_column=lineage),
            "dagster/column_schema": dg.TableSchema(
                columns=[dg.TableColumn(name, type=kind) for name, kind in _types(session, found)]
            ),
        },
        check_results=[
            one.result()
            for one in quality(
                invalid=found.invalid,
                completeness=found.completeness,
                duplicates=found.duplicates,
                more={"reasons": _reasons(session, found)},
            )
        ],
    )


def plan(session: Session, spec: SyncSpec) -> dg.MaterializeResult[Any]:
    """Materialises `<sync>/plan`: the exact changes; a guard may block it."""
    session.hold(spec.name)
    with session.database.connection() as connection:
        row = latest_plan(connection, spec.name)
    if row is None or row.state != "building":
        raise ConfigError(
            f"{spec.name} has no desired state to plan from", mend=f"materialise {spec.name}/desired first"
        )
    session.progress(f"{spec.name}: comparing with {spec.target}")
    with session.timed("plan"):
        planned = make_plan(session, spec, prepared_of(row))
    return dg.MaterializeResult(
        metadata={
            "plan_id": planned.plan_id,
            "blocked": planned.blocked or "no",
            **{f"{op}s": count for op, count in planned.summary["counts"].items()},
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="delete_guard",
                passed=planned.blocked is None,
                severity=dg.AssetCheckSeverity.ERROR,
                metadata={"reason": planned.blocked or "no guard objects"},
            )
        ],
    )


def delivered(session: Session, spec: SyncSpec, tags: Mapping[str, str]) -> dg.MaterializeResult[Any]:
    """Materialises `<sync>/delivered`: writes the plan that the run's tags name, else the newest one."""
    session.hold(spec.name)
    plan_id = tags.get(PLAN_ID)
    with session.database.connection() as connection:
        row = latest_plan(connection, spec.name) if plan_id is None else None
    if plan_id is None and row is None:
        raise BlockedError(f"{spec.name} has no plan to deliver", mend=f"materialise {spec.name}/plan first")
    session.progress(f"{spec.name}: writing to {spec.target}")
    report = deliver(
        session,
        spec,
        plan_id or (row.plan_id if row else ""),
        exact=EXACT in tags,
        next_sync=next_tick(spec.frequency, spec.timezone, session.now()),
    )
    with session.database.connection() as connection:
        history = connection.execute(
            "SELECT report FROM sync.reports WHERE sync = %s ORDER BY finished_at DESC LIMIT 30", (spec.name,)
        ).fetchall()
    return dg.MaterializeResult(
        metadata={
            **report_metadata(report),
            "last_runs": dg.MetadataValue.md(runs_picture([one[0] for one in reversed(history)])),
        },
        check_results=[freshness(session.database, spec, session.now()).result()],
    )


def _types(session: Session, found: Prepared) -> list[tuple[str, str]]:
    import polars as pl

    for path in PlanFiles(session.database.home.lake, found.plan_id).paths("desired"):
        return [(n, str(t)) for n, t in pl.read_parquet_schema(path).items() if not n.startswith("_")]
    return []


def _reasons(session: Session, found: Prepared) -> dg.MetadataValue[Any]:
    """The commonest reasons with a record that shows each."""
    counts: dict[str, list[str]] = {}
    for part in PlanFiles(session.database.home.lake, found.plan_id).parts("invalid"):
        for key, reason in part.select("_key", "reason").iter_rows():
            counts.setdefault(reason, []).append(key)
    worst = sorted(counts.items(), key=lambda item: -len(item[1]))[:20]
    return dg.MetadataValue.json([{"reason": r, "records": len(keys), "example": keys[0]} for r, keys in worst])
