"""A plan as a file people can read, commit and apply."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from sync_platform.errors import ConfigError
from sync_platform.ledger.plans import Plan, PlanFiles, load_plan, set_plan
from sync_platform.model import Op

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

TOLD_OPS = [str(op) for op in Op if op is not Op.SKIP]


def plan_document(session: Session, spec: SyncSpec, plan_id: str) -> dict[str, Any]:
    """The plan as INTERFACES shows it; its digest is remembered, so that an altered file is noticed."""
    with session.database.connection() as connection:
        plan = load_plan(connection, plan_id)
    files = PlanFiles(session.database.home.lake, plan_id)
    document: dict[str, Any] = {
        "plan_id": plan.plan_id,
        "sync": plan.sync,
        "digest": "",
        "compare": plan.compare,
        "blocked": plan.reason,
        "expires_at": plan.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "pushdown": pushdown(session, spec, plan.evaluated_at),
        "summary": _summary(plan),
        "changes": [change for kind in ("changes", "back") for part in files.parts(kind) for change in _changes(part)]
        + [change for part in files.parts("invalid") for change in _invalid(part)],
    }
    document["digest"] = digest_of(document)
    with session.database.connection() as connection:
        set_plan(connection, plan_id, plan.state, reason=plan.reason, digest=document["digest"])
    return document


def pushdown(session: Session, spec: SyncSpec, now: dt.datetime) -> dict[str, str | None]:
    """Where the filter is evaluated: in staging (`local`), and how the vendor would write it (`source`)."""
    if spec.filter is None:
        return {"source": None, "local": None}
    from sync_platform.engine.filters import Filter

    parsed = Filter.parse(spec.filter)
    return {
        "source": session.connector(spec.source.connection).preview(
            spec.source.object, parsed.absolute(now, spec.timezone)
        ),
        "local": parsed.duckdb(now, spec.timezone),
    }


def _summary(plan: Plan) -> dict[str, int]:
    counts = plan.summary["counts"]
    names = (Op.CREATE, Op.UPDATE, Op.DELETE, Op.ARCHIVE, Op.SKIP, Op.HOLD, Op.CONFLICT, Op.INVALID)
    return {str(op): counts.get(str(op), 0) for op in names}


def _changes(part: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "op": row["_op"],
            "key": row["_key"],
            "target_id": row["_target_id"],
            "fields": [
                {"name": name, "old": row[f"old:{name}"], "new": row[f"new:{name}"]} for name in _fields_of(row)
            ],
            "reason": row["_reason"],
            **({"side": row["_side"]} if "_side" in row else {}),
        }
        for row in part.filter(pl.col("_op").is_in(TOLD_OPS)).iter_rows(named=True)
    ]


def _fields_of(row: dict[str, Any]) -> list[str]:
    """The fields a change sends; a part of creates for a database does not name them."""
    if row["_fields"] is not None:
        return list(row["_fields"])
    return [name[4:] for name, value in row.items() if name.startswith("new:") and value is not None]


def _invalid(part: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {"op": str(Op.INVALID), "key": row["_key"], "target_id": None, "fields": [], "reason": row["reason"]}
        for row in part.iter_rows(named=True)
    ]


def digest_of(document: dict[str, Any]) -> str:
    """SHA-256 over the document's canonical JSON, without the digest itself."""
    bare = {name: value for name, value in document.items() if name != "digest"}
    return hashlib.sha256(orjson.dumps(bare, default=str, option=orjson.OPT_SORT_KEYS)).hexdigest()


def read_plan_file(path: Path) -> dict[str, Any]:
    """The document of a plan file whose digest holds; ConfigError otherwise."""
    try:
        document = orjson.loads(path.read_bytes())
        told, sync, plan_id = document["digest"], document["sync"], document["plan_id"]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", file=str(path)) from error
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is not a plan: {error}", file=str(path), mend="write one with `sync-platform plan SYNC --out FILE`"
        ) from error
    if digest_of(document) != told:
        raise _altered(path, plan_id, sync)
    return dict(document)


def refuse_foreign(document: dict[str, Any], plan: Plan, path: Path) -> None:
    """Raises ConfigError unless the file is the plan this installation made."""
    if document["digest"] != plan.digest or document["sync"] != plan.sync:
        raise _altered(path, plan.plan_id, plan.sync)


def _altered(path: Path, plan_id: str, sync: str) -> ConfigError:
    return ConfigError(
        f"{path} was altered: its digest is not that of plan {plan_id}",
        file=str(path),
        field="digest",
        mend=f"make it again with `sync-platform plan {sync} --out {path}`",
    )
