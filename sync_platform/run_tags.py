"""Tags by which a Dagster run is told what to do beyond its job."""

from __future__ import annotations

from typing import Final

#: Which sync a run of a sync's own job works on.
SYNC: Final = "sync"
#: Which sync's events a run delivers in the workers' place; it shares the sync with its runs and does not hold it.
DRAINS: Final = "sync_platform/drains"
#: `apply` names the plan that `delivered` writes ...
PLAN_ID: Final = "sync_platform/plan_id"
#: ... and asks that a target that moved since the plan is refused instead of overwritten.
EXACT: Final = "sync_platform/exact"
#: Reads its sources completely, so that what changed or went without a trace is found ...
FULL: Final = "sync_platform/full"
#: ... and, with this value, plans every record and not only those that the read found changed.
EVERY_RECORD: Final = "every record"
#: The code location of workspace.yaml; Dagster's pages of a job list the runs that carry this label.
REPOSITORY: Final = {".dagster/repository": "__repository__@sync_platform"}
