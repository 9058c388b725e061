"""The platform's words as plain values: no I/O, no Dagster.

See the glossary in docs/words.md. Every frame that crosses a module boundary is an Arrow table or a
polars frame; the classes here describe streams and single changes.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import pyarrow as pa

Record: TypeAlias = Mapping[str, Any]

#: Technical columns of a staged table, beside the vendor's own (see `staging.tables`).
KEY: Final = "_key"
HASH: Final = "_hash"
SEQ: Final = "_seq"
DELETED: Final = "_deleted"
CURSOR: Final = "_cursor"
READ_AT: Final = "_read_at"
#: A column of pages only: the source's own digest of a row (see `Page`).
DIGEST: Final = "_row_digest"


class Deletes(enum.StrEnum):
    """How a deleted record shows at the source."""

    TOMBSTONE = "tombstone"  # the ordinary read carries it with `_deleted`
    FEED = "feed"  # a second request lists ids; the connector folds them into `read`
    ABSENCE = "absence"  # only by missing from a proven complete read
    NONE = "none"  # never


class Repeat(enum.StrEnum):
    """What makes a repeated create harmless at this stream."""

    NATURAL = "natural"  # the write is an upsert by the record's own key
    KEY = "key"  # the vendor takes an idempotency key or an external id we give
    STAMP = "stamp"  # a unique field of ours on the target, looked up
    LOOKUP = "lookup"  # look up by natural key; `lookup_lag` says how late the look-up may see it
    NONE = "none"  # cannot be known: held for a person


class Op(enum.StrEnum):
    """What a plan wants for one record."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    ARCHIVE = "archive"
    SKIP = "skip"  # nothing to do; the reason says why
    HOLD = "hold"  # a person decides first
    CONFLICT = "conflict"  # both sides of a two-way sync changed it, and a person decides
    INVALID = "invalid"  # fails the contract: becomes a dead letter


class Status(enum.StrEnum):
    """What became of one change."""

    APPLIED = "applied"
    NOOP = "noop"  # the target already had it
    FAILED = "failed"  # refused for good, or set aside
    RETRY = "retry"  # failed for a passing reason: tried again by the next run
    REFUSED = "refused"  # the target no longer holds what the plan saw
    HELD = "held"
    UNKNOWN = "unknown"  # the answer was lost and the look-up did not settle it


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a stream, as the vendor describes it."""

    name: str
    type: pa.DataType
    readonly: bool = False
    required: bool = False  # the vendor refuses a create without it
    unique: bool = False
    folded: bool = False  # the vendor compares it without regard to case (e-mail)
    values: tuple[str, ...] = ()  # the closed list of allowed values, when there is one
    max_length: int | None = None
    label: str = ""
    fraction: int | None = None  # digits of a second that a time keeps, when they are fewer than six
    reads: str = ""  # what becomes of odd values when the field is read, as a sentence
    keeps: str = ""  # which values the vendor would not keep as they are, as a sentence
    made_by: str = ""  # why it is read-only, and what a person can do about it, as sentences
    form: str = ""  # what a text must be written like (uuid, jsonb, …); '': any text
    max_bytes: int | None = None
    odd: tuple[str, ...] = ()  # values beyond the usual ones of its type that it may hold (see `engine.losses`)
    refuses: tuple[str, ...] = ()  # of such values those that the vendor refuses

    def to_arrow(self) -> pa.Field:
        """The Arrow field, with the flags as JSON metadata under `sync`."""
        flags = {
            "readonly": self.readonly,
            "required": self.required,
            "unique": self.unique,
            "folded": self.folded,
            "values": list(self.values),
            "max_length": self.max_length,
            "label": self.label,
            "fraction": self.fraction,
            "reads": self.reads,
            "keeps": self.keeps,
            "made_by": self.made_by,
            "form": self.form,
            "max_bytes": self.max_bytes,
            "odd": list(self.odd),
            "refuses": list(self.refuses),
        }
        return pa.field(self.name, self.type, metadata={"sync": json.dumps(flags)})

    @classmethod
    def from_arrow(cls, arrow: pa.Field) -> Field:
        """The reverse of `to_arrow`; a field without our metadata has no flags."""
        raw = (arrow.metadata or {}).get(b"sync")
        flags = json.loads(raw) if raw else {}
        for name in ("values", "odd", "refuses"):
            flags[name] = tuple(flags.get(name, ()))
        return cls(name=arrow.name, type=arrow.type, **flags)


def schema_of(fields: Mapping[str, Field] | tuple[Field, ...]) -> pa.Schema:
    """An Arrow schema that keeps each field's flags."""
    values = fields.values() if isinstance(fields, Mapping) else fields
    return pa.schema([f.to_arrow() for f in values])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The field an incremental read moves along."""

    field: str
    granularity: dt.timedelta = dt.timedelta(milliseconds=1)
    inclusive: bool = True  # does the vendor's lower bound include the value itself?
    lag: dt.timedelta = dt.timedelta(0)  # how far behind the newest value a late row may still appear


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One object of one system and its habits."""

    name: str
    key: tuple[str, ...]
    cursor: Cursor | None = None
    deletes: Deletes = Deletes.NONE
    tombstone: str | None = None  # the field by which `get` tells that a row is deleted; None: it answers no such row
    natural_keys: tuple[str, ...] = ()
    batch_size: int = 100  # records per write call
    repeat: Repeat = Repeat.LOOKUP
    lookup_lag: dt.timedelta = dt.timedelta(0)
    writable: bool = True
    transactional: bool = False  # a bulk write and its delivery marker commit together
    compare: str = "target"  # default of a sync's `compare`: target | links
    empty_is_null: bool = True  # the vendor keeps no difference between '' and nothing
    merged_ids: str | None = None  # the survivor's field that lists the ids merged into it, separated by `;`


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stream was read: JSON values, meaningful only to its connector."""

    value: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some rows of a read and the position that resumes after them.

    `table` has the vendor's columns; a column it lacks is *absent*, not null. An optional boolean
    column `_deleted` marks tombstones (their other columns are ignored). `position` is None while
    no safe point has been reached. `complete` is True only on the last page of a full read
    (`since=None`) that provably returned every row. `digests`, where the table has a column `_row_digest`, names
    what these numbers are made of: equal ones of one name mean equal rows.
    """

    table: pa.Table
    position: Position | None
    read_at: dt.datetime  # when the request that brought these rows started (UTC)
    complete: bool = False
    digests: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One record's part of a plan, as a connector is asked to write it.

    `fields` holds exactly what to send (None clears a field). `token` is unique and stable for this
    change of this plan: connectors use it as idempotency key or correlation id. `match` are the fields by
    which the sync tells records apart.
    """

    op: Op
    key: str
    token: str
    target_id: str | None = None
    fields: Record = field(default_factory=dict)
    match: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the target said to one change.

    `record` is the record as the target answered it, where it does. `field` and `reason` name what
    was wrong, `resolution` what a person can do about it. `waits`: RETRY because another record is not there yet, so
    that trying again at once is in vain.
    """

    key: str
    op: Op
    status: Status
    target_id: str | None = None
    record: Record | None = None
    field: str | None = None
    reason: str | None = None
    resolution: str | None = None
    request_id: str | None = None
    waits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened at a source. `id` is unique per connection."""

    id: str
    stream: str
    key: str
    kind: str  # created | updated | deleted | merged
    occurred_at: dt.datetime
    fields: Record = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What `Connector.check` found: who we are there, and which API version answers."""

    ok: bool
    account: str = ""
    api_version: str = ""
    problems: tuple[str, ...] = ()
