"""A plan as a file people can read, commit and apply."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson
import polars as pl

from sync_platform.errors import ConfigError
from sync_platform.ledger.plans import Plan, PlanFiles, load_plan, set_plan
from sync_platform.model import Op

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

TOLD_OPS = [str(op) for op in Op if op is not Op.SKIP]


class PlanDocument:
    """A plan as INTERFACES shows it. Its changes are read part by part: a plan may be larger than memory."""

    def __init__(self, session: Session, spec: SyncSpec, plan_id: str) -> None:
        self._database = session.database
        with self._database.connection() as connection:
            self._plan = plan = load_plan(connection, plan_id)
        self._files = PlanFiles(session.database.home.lake, plan_id)
        self.head: dict[str, Any] = {
            "plan_id": plan.plan_id,
            "sync": plan.sync,
            "compare": plan.compare,
            "blocked": plan.reason,
            "expires_at": plan.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "pushdown": pushdown(session, spec, plan.evaluated_at),
            "summary": _summary(plan),
        }

    @property
    def total(self) -> int:
        """How many changes it holds."""
        return sum(self.head["summary"].get(str(op), 0) for op in TOLD_OPS)

    def changes(self) -> Iterator[dict[str, Any]]:
        """Its changes in order, refused records last."""
        for kind in ("changes", "back"):
            for part in self._files.parts(kind):
                yield from _changes(part)
        for part in self._files.parts("invalid"):
            yield from _invalid(part)

    def write(self, *outs: BinaryIO) -> None:
        """Writes the JSON document; its digest, the last key, is remembered, so that an altered file is noticed."""
        digest = _Digest(self.head)

        def put(text: bytes) -> None:
            for out in outs:
                out.write(text)

        put(_pretty(self.head).removesuffix(b"\n}") + b',\n  "changes": [')
        between = b"\n    "
        for change in self.changes():
            digest.add(change)
            put(between + _pretty(change).replace(b"\n", b"\n    "))
            between = b",\n    "
        told = digest.of_all()
        put(b"\n  ],\n" + b'  "digest": "' + told.encode() + b'"\n}\n')
        with self._database.connection() as connection:
            set_plan(connection, self._plan.plan_id, self._plan.state, reason=self._plan.reason, digest=told)


def _pretty(value: object) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2)


class _Digest:
    """SHA-256 over a document's canonical JSON (keys in order, no spaces, without the digest), change by change."""

    def __init__(self, head: Mapping[str, Any]) -> None:
        before = {key: value for key, value in head.items() if key < "changes"}
        self._after = {key: value for key, value in head.items() if key > "changes"}
        self._hash = hashlib.sha256(_canonical(before)[:-1] + (b"," if before else b"") + b'"changes":[')
        self._comma = b""

    def add(self, change: Mapping[str, Any]) -> None:
        self._hash.update(self._comma + _canonical(change))
        self._comma = b","

    def of_all(self) -> str:
        self._hash.update(b"]" + (b"," if self._after else b"") + _canonical(self._after)[1:])
        return self._hash.hexdigest()


def _canonical(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS)


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


def _changes(part: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row in part.filter(pl.col("_op").is_in(TOLD_OPS)).iter_rows(named=True):
        yield {
            "op": row["_op"],
            "key": row["_key"],
            "target_id": row["_target_id"],
            "fields": [
                {"name": name, "old": row[f"old:{name}"], "new": row[f"new:{name}"]} for name in row["_fields"] or []
            ],
            "reason": row["_reason"],
            **({"side": row["_side"]} if "_side" in row else {}),
        }


def _invalid(part: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row in part.iter_rows(named=True):
        yield {"op": str(Op.INVALID), "key": row["_key"], "target_id": None, "fields": [], "reason": row["reason"]}


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 over the document's canonical JSON, without the digest itself."""
    digest = _Digest({name: value for name, value in document.items() if name not in ("changes", "digest")})
    for change in document["changes"]:
        digest.add(change)
    return digest.of_all()


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
