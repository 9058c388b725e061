"""What a run did, counted from its outcomes: the report of docs/report.md."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from sync_platform.model import Op, Status

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.ledger.plans import PlanFiles

MOST_ERRORS = 1000
DONE = (str(Status.APPLIED), str(Status.NOOP))


def resolution_for(reason: str | None, spec: SyncSpec) -> str:
    """What a person can do about a record the target or the contract refused."""
    return (
        f"correct it in {spec.source} or change the mapping or contract of {spec.name}; it is tried again when either "
        "changes, or at once with `sync-platform dead retry`"
    )


@dataclass
class Tally:
    """Counts of one delivery, fed with every settled frame."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def add(self, settled: pl.DataFrame) -> None:
        """Counts one settled frame (columns of `ledger.settle.SETTLED`)."""
        for op, status, count in settled.group_by("op", "status").len().iter_rows():
            self.outcomes[op, status] += count
        wrong = settled.filter(~pl.col("status").is_in([*DONE, str(Status.HELD)])).head(MOST_ERRORS)
        for row in wrong.iter_rows(named=True):
            if row["status"] == Status.REFUSED:
                self.refused.append(_refusal(row))
            if len(self.errors) < MOST_ERRORS:
                self.errors.append(
                    {
                        "key": row["source_key"],
                        "field": row["field"],
                        "reason": row["reason"],
                        "resolution": row["resolution"] or "the next run plans it again",
                    }
                )

    def count(self, *statuses: Status, ops: tuple[Op, ...] | None = None) -> int:
        """Outcomes with one of these statuses (and ops)."""
        return sum(
            number
            for (op, status), number in self.outcomes.items()
            if status in statuses and (ops is None or op in ops)
        )


def _refusal(row: dict[str, Any]) -> dict[str, Any]:
    told = orjson.loads(row["payload"]) if row["payload"] else {}
    return {
        "key": row["source_key"],
        "target_id": row["target_id"],
        "field": row["field"],
        "planned_old": told.get("planned_old"),
        "found": told.get("found", row["reason"]),
    }


def counts_of(files: PlanFiles) -> dict[str, int]:
    """What a plan's parts say: processed, unchanged, invalid, duplicates; each record counted once."""
    counts = {"processed": 0, "unchanged": 0, "invalid": 0, "duplicates": 0}
    told = pl.col("_changed") | (pl.col("_op") != str(Op.SKIP))
    for taken in (part for kind in ("changes", "back") for part in files.chosen(kind, told, "_op", "_key")):
        asked = taken.filter(pl.col("_op") == str(Op.CONFLICT))  # several fields of one record are one hold
        counts["processed"] += taken.height - asked.height + asked["_key"].n_unique()
        counts["unchanged"] += taken.filter(pl.col("_op") == str(Op.SKIP)).height
    for invalid in files.parts("invalid"):
        counts["invalid"] += invalid.height
    counts["processed"] += counts["invalid"]
    for duplicates in files.parts("duplicates"):
        counts["duplicates"] += duplicates.filter(pl.col("_changed")).height
    return counts


def missing_required(files: PlanFiles) -> list[str]:
    """Sentences such as "email field empty for 2 records", one per required field that was empty."""
    empty: Counter[str] = Counter()
    for invalid in files.parts("invalid"):
        for text in invalid["reasons"]:
            for reason in {one["field"] for one in orjson.loads(text) if one["value"] in (None, "")}:
                empty[reason] += 1
    return [f"{name} field empty for {n} record{'s' if n != 1 else ''}" for name, n in sorted(empty.items())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured around a delivery."""

    seconds: float
    seconds_by_step: dict[str, float]
    api_calls: int
    bytes_sent: int
    seconds_waiting_for_quota: float


def build_report(
    spec: SyncSpec,
    *,
    run_id: str,
    plan_id: str | None,
    lane: str,
    tally: Tally,
    counts: dict[str, int],
    completeness: float,
    missing: list[str],
    open_letters: int,
    measured: Measured,
    next_sync: dt.datetime | None,
    first_sync_held: int = 0,
) -> dict[str, Any]:
    """The report as JSON values (DESIGN: the report)."""
    summary = _summary(tally, counts, open_letters, measured.seconds)
    processed, seconds = counts["processed"], measured.seconds
    return {
        "sync": spec.name,
        "run_id": run_id,
        "plan_id": plan_id,
        "lane": lane,
        "sync_summary": summary,
        "data_quality": {
            "completeness_score": round(completeness, 4),
            "validation_errors": counts["invalid"],
            "missing_required_fields": missing,
        },
        "performance": {
            "success_rate": round(summary["successful_transfers"] / processed, 3) if processed else 1.0,
            "records_per_second": round(processed / seconds, 1) if seconds else 0.0,
            "api_calls": measured.api_calls,
            "bytes_sent": measured.bytes_sent,
            "seconds_waiting_for_quota": round(measured.seconds_waiting_for_quota, 3),
            "seconds_by_step": {name: round(value, 3) for name, value in measured.seconds_by_step.items()},
        },
        "errors": tally.errors,
        "refused": tally.refused,
        "first_sync_held": first_sync_held,
        "next_sync": next_sync.strftime("%Y-%m-%dT%H:%M:%SZ") if next_sync else None,
    }


def _summary(tally: Tally, counts: dict[str, int], open_letters: int, seconds: float) -> dict[str, Any]:
    done = {
        "created": tally.count(Status.APPLIED, ops=(Op.CREATE,)),
        "updated": tally.count(Status.APPLIED, ops=(Op.UPDATE,)),
        "deleted": tally.count(Status.APPLIED, ops=(Op.DELETE, Op.ARCHIVE)),
        "unchanged": counts["unchanged"] + tally.count(Status.NOOP, ops=(Op.CREATE, Op.UPDATE, Op.DELETE, Op.ARCHIVE)),
    }
    return {
        "records_processed": counts["processed"],
        "successful_transfers": sum(done.values()),
        "failed_transfers": tally.count(Status.FAILED, Status.RETRY, Status.UNKNOWN),
        **done,
        "held": tally.count(Status.HELD, Status.REFUSED),
        "dead_letters_open": open_letters,
        "duplicates_skipped": counts["duplicates"],
        "sync_duration": f"{seconds:.1f} seconds",
    }
