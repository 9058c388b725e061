"""A record whose events cannot be processed, whatever is tried: a dead letter, and the others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from sync_platform.ledger.settle import settle, settled_frame
from sync_platform.model import Op, Status
from sync_platform.realtime.queue import Batch, finish

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.errors import SyncError
    from sync_platform.session import Session


def park(session: Session, spec: SyncSpec, worker: str, run_id: str, batch: Batch, error: SyncError) -> None:
    """Sets the batch's records aside with the error as their reason, and ends their events as dead."""
    told = [
        {
            "source_key": key,
            "op": str(Op.INVALID),
            "status": str(Status.FAILED),
            "field": error.field,
            "reason": error.message,
            "resolution": error.mend or "correct the record or the sync, then `sync-platform dead retry`",
            "payload": orjson.dumps({"events": [one.fields for one in batch.events[key]]}, default=str).decode(),
            "reasons": orjson.dumps([{"field": error.field, "reason": error.message, "value": None}]).decode(),
            "kind": "contract",
        }
        for key in batch.keys
    ]
    with session.database.connection() as connection:
        settle(connection, spec, settled_frame(told), run_id=run_id, plan_id=batch.plan_id, lane="realtime")
        finish(connection, worker, batch.sync, {key: ("dead", error.message) for key in batch.keys}, state="dead")
