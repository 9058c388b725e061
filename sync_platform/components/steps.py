"""The three steps of a sync as Dagster runs them: call the engine, then tell what it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sync_platform.components.frequency import longest_gap, next_tick
from sync_platform.components.pictures import runs_picture
from sync_platform.components.report_text import report_markdown
from sync_platform.engine.deliver import deliver
from sync_platform.engine.desired import Prepared, lineage_of, prepare, prepared_of
from sync_platform.engine.planning import make_plan
from sync_platform.engine.recover import recover
from sync_platform.engine.spec import SyncSpec
from sync_platform.errors import BlockedError, ConfigError
from sync_platform.ledger.plans import PlanFiles, latest_plan
from sync_platform.run_tags import EXACT, PLAN_ID
from sync_platform.session import Session


def desired(session: Session, spec: SyncSpec, *, full: bool = False) -> dg.MaterializeResult[Any]:
    """Materialises `<sync>/desired`: what the target should hold."""
    session.hold(spec.name)
    recover(session, spec)
    session.progress(f"{spec.name}: mapping, deduplicating and checking")
    with session.timed("transform"):
        found = prepare(session, spec, full=full)
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
            _check("contract", found.invalid == 0, {"invalid": found.invalid, "reasons": _reasons(session, found)}),
            _check("completeness", found.completeness >= 0.95, {"completeness": found.completeness}),
            _check("duplicates", found.duplicates == 0, {"duplicates_skipped": found.duplicates}),
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
    summary = report["sync_summary"]
    with session.database.connection() as connection:
        history = connection.execute(
            "SELECT report FROM sync.reports WHERE sync = %s ORDER BY finished_at DESC LIMIT 30", (spec.name,)
        ).fetchall()
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.json(report),
            "report_markdown": dg.MetadataValue.md(report_markdown(report)),
            "last_runs": dg.MetadataValue.md(runs_picture([one[0] for one in reversed(history)])),
            "records_processed": summary["records_processed"],
            "successful_transfers": summary["successful_transfers"],
            "failed_transfers": summary["failed_transfers"],
            "held": summary["held"],
        },
        check_results=[_freshness(session, spec)],
    )


def _freshness(session: Session, spec: SyncSpec) -> dg.AssetCheckResult:
    """Red when what was delivered had been read from the source longer ago than two intervals."""
    allowed = longest_gap(spec.frequency, spec.timezone, session.now())
    with session.database.connection() as connection:
        row = connection.execute(
            """SELECT extract(epoch FROM now() - max(started_at))::float8 FROM sync.loads
               WHERE connection = %s AND stream = %s AND finished_at IS NOT NULL""",
            (spec.source.connection, spec.source.object),
        ).fetchone()
    age = row[0] if row else None
    passed = age is not None and age <= allowed.total_seconds()
    return _check("freshness", passed, {"age_seconds": age, "allowed_seconds": allowed.total_seconds()})


def _check(name: str, passed: bool, metadata: Mapping[str, Any]) -> dg.AssetCheckResult:
    known = {key: value for key, value in metadata.items() if value is not None}
    return dg.AssetCheckResult(check_name=name, passed=passed, severity=dg.AssetCheckSeverity.WARN, metadata=known)


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
