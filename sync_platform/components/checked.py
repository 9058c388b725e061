"""What a sync tells Dagster about its quality, whether a run found it or a worker."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_platform.components.frequency import longest_gap
from sync_platform.components.report_text import report_markdown

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.state.database import Database

#: A smaller share of filled cells turns `completeness` red.
COMPLETE_ENOUGH = 0.95
COUNTS = ("records_processed", "successful_transfers", "failed_transfers", "held")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The outcome of one check of `<sync>/<step>`."""

    step: str
    name: str
    passed: bool
    metadata: Mapping[str, Any]

    def result(self) -> dg.AssetCheckResult:
        """As a step of a run returns it."""
        return dg.AssetCheckResult(
            check_name=self.name, passed=self.passed, severity=dg.AssetCheckSeverity.WARN, metadata=self._known()
        )

    def evaluation(self, sync: str) -> dg.AssetCheckEvaluation:
        """As it is reported without a run."""
        return dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey([sync, self.step]),
            check_name=self.name,
            passed=self.passed,
            severity=dg.AssetCheckSeverity.WARN,
            metadata=self._known(),
        )

    def _known(self) -> dict[str, Any]:
        return {key: value for key, value in self.metadata.items() if value is not None}


def quality(*, invalid: int, completeness: float, duplicates: int, more: Mapping[str, Any]) -> list[Checked]:
    """The three checks of `<sync>/desired`; `more` explains the records that break the contract."""
    return [
        Checked(step="desired", name="contract", passed=invalid == 0, metadata={"invalid": invalid, **more}),
        Checked(
            step="desired",
            name="completeness",
            passed=completeness >= COMPLETE_ENOUGH,
            metadata={"completeness": completeness},
        ),
        Checked(step="desired", name="duplicates", passed=duplicates == 0, metadata={"duplicates_skipped": duplicates}),
    ]


def age_of_source(database: Database, spec: SyncSpec) -> float | None:
    """Seconds since the newest finished read of the sync's source began; None: it was never read."""
    with database.connection() as connection:
        row = connection.execute(
            """SELECT extract(epoch FROM now() - max(started_at))::float8 FROM sync.loads
               WHERE connection = %s AND stream = %s AND state = 'finished'""",
            (spec.source.connection, spec.source.object),
        ).fetchone()
    return row[0] if row else None


def freshness(database: Database, spec: SyncSpec, now: dt.datetime) -> Checked:
    """Red when what was delivered had been read from the source longer ago than two intervals."""
    allowed = longest_gap(spec.frequency, spec.timezone, now).total_seconds()
    age = age_of_source(database, spec)
    return Checked(
        step="delivered",
        name="freshness",
        passed=age is not None and age <= allowed,
        metadata={"age_seconds": age, "allowed_seconds": allowed},
    )


def report_metadata(report: dict[str, Any]) -> dict[str, Any]:
    """What a materialisation of `<sync>/delivered` carries of its report."""
    summary = report["sync_summary"]
    return {
        "report": dg.MetadataValue.json(report),
        "report_markdown": dg.MetadataValue.md(report_markdown(report)),
        **{name: summary[name] for name in COUNTS},
    }
