"""A plan as a file people can read, commit and apply."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

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
        return _changes_of(self._files)

    def write(self, *outs: BinaryIO) -> None:
        """Writes the JSON document; its digest, the last key, is remembered, so that an altered file is noticed."""
        digest = _Digest(self.head)
        for text in _texts(self.head, self.changes(), digest):
            for out in outs:
                out.write(text)
        told, plan = digest.of_all(), self._plan
        with self._database.connection() as connection:
            set_plan(connection, plan.plan_id, plan.state, reason=plan.reason, digest=told)


def _changes_of(files: PlanFiles) -> Iterator[dict[str, Any]]:
    for kind in ("changes", "back"):
        for part in files.parts(kind):
            yield from _changes(part)
    for part in files.parts("invalid"):
        yield from _invalid(part)


_MOST_HEAD: Final = 1 << 20  # bytes before the changes
_BEFORE_CHANGES: Final = b',\n  "changes": ['


def _texts(head: Mapping[str, Any], changes: Iterable[Mapping[str, Any]], digest: _Digest) -> Iterator[bytes]:
    """The document as it is written, change by change."""
    yield _pretty(head).removesuffix(b"\n}") + _BEFORE_CHANGES
    between = b"\n    "
    for change in changes:
        digest.add(change)
        yield between + _pretty(change).replace(b"\n", b"\n    ")
        between = b",\n    "
    yield b"\n  ],\n" + b'  "digest": "' + digest.of_all().encode() + b'"\n}\n'


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
        whole = self._hash.copy()
        whole.update(b"]" + (b"," if self._after else b"") + _canonical(self._after)[1:])
        return whole.hexdigest()


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
                {"name": name, "old": row[f"old:{name}"], "new": row[f"new:{name}"]} for name in _fields_of(row)
            ],
            "reason": row["_reason"],
            **({"side": row["_side"]} if "_side" in row else {}),
        }


def _fields_of(row: dict[str, Any]) -> list[str]:
    """The fields a change sends; a part of creates for a database does not name them."""
    if row["_fields"] is not None:
        return list(row["_fields"])
    return [name[4:] for name, value in row.items() if name.startswith("new:") and value is not None]


def _invalid(part: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row in part.iter_rows(named=True):
        yield {"op": str(Op.INVALID), "key": row["_key"], "target_id": None, "fields": [], "reason": row["reason"]}


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 over the document's canonical JSON, without the digest itself."""
    digest = _Digest({name: value for name, value in document.items() if name not in ("changes", "digest")})
    for change in document["changes"]:
        digest.add(change)
    return digest.of_all()


def read_plan_file(path: Path, lake: Path) -> dict[str, Any]:
    """The document of a plan file whose digest holds, with or without its changes; ConfigError otherwise.

    A file that is as it was written is compared with the plan's parts in the lake, change by change; one that was laid
    out anew (by `jq`, say) is read into memory.
    """
    try:
        known = _as_written(path, lake)
        if known is not None:
            return known
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


def _as_written(path: Path, lake: Path) -> dict[str, Any] | None:
    """The document without its changes, when the file is byte by byte what `write` makes of this lake's plan."""
    with path.open("rb") as file:
        try:
            head = orjson.loads(file.read(_MOST_HEAD).partition(_BEFORE_CHANGES)[0] + b"\n}")
            files, digest = PlanFiles(lake, str(uuid.UUID(head["plan_id"]))), _Digest(head)
        except (ValueError, KeyError, TypeError, AttributeError):  # no JSON, or not laid out like this
            return None
        file.seek(0)
        for text in _texts(head, _changes_of(files), digest):
            if file.read(len(text)) != text:
                return None
        return {**head, "digest": digest.of_all()} if not file.read(1) else None


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
