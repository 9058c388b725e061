"""What one sync says, as plain values: the parsed form of its `defs.yaml`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

Mode: TypeAlias = Literal["insert", "update", "upsert", "mirror", "archive", "fill_empty"]
OnLeave: TypeAlias = Literal["keep", "archive", "delete"]
Keep: TypeAlias = Literal["newest", "oldest", "most_complete"]
Compare: TypeAlias = Literal["target", "links"]
Kind: TypeAlias = Literal["email", "phone", "name", "text"]
Side: TypeAlias = Literal["source", "target"]
Conflicts: TypeAlias = Literal["newest", "source", "target", "ask"]
Drift: TypeAlias = Literal["ignore", "add_column", "pause"]
OnDelete: TypeAlias = Literal["propagate", "archive", "ignore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One object at one connection."""

    connection: str
    object: str

    def __str__(self) -> str:
        return f"{self.connection}/{self.object}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A target field computed by SQL over source fields."""

    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A target field that always holds one value."""

    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueMap:
    """A target field translated from a source expression by a table of values.

    A value that is not in the table becomes `default`; without a default it is a dead letter.
    A null source value stays null unless `default` is given.
    """

    source: str
    values: Mapping[str, str | None]
    default: str | None = None
    has_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A target field read from another staged stream of the source connection (or another one)."""

    connection: str
    object: str
    on: str  # SQL over source fields giving the key to look up
    key: str  # the field of `object` it is compared with
    value: str  # the field of `object` that is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """A target field computed by a named Python function of the project over polars expressions."""

    function: str  # dotted, e.g. checks.transforms.phone_e164
    arguments: tuple[str, ...]  # SQL over source fields


FieldRule: TypeAlias = Expression | Constant | ValueMap | Lookup | Transform


@dataclass(frozen=True, slots=True, kw_only=True)
class Dedupe:
    """Which source records are the same thing, and which of them speaks for it."""

    by: str  # SQL; a null key is never a duplicate
    keep: Keep = "newest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Limits beyond which a plan is blocked instead of obeyed."""

    max_deletes: int | None = 10
    max_invalid: float | None = None  # fraction of the desired records, 0..1


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchField:
    """A target field that tells records apart, and what its values are."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """How alike a new record and an unlinked target record must be to be taken for the same (0..1)."""

    fields: tuple[MatchField, ...]
    likely: float = 0.9  # from here on it is probably the same
    possible: float = 0.5  # from here on a person decides, below it is another


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorHandling:
    """What happens to calls and records that fail."""

    retries: int = 5
    backoff_seconds: float = 1.0
    alert: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoWay:
    """What a two-way sync says beyond a one-way one.

    `back` gives source fields by rules over target fields, beside those that follow from the mapping; None: that
    field is not written back. `conflicts`
    decides a field that both sides changed, `owners` the fields named there. `deleted_at_source` and
    `deleted_at_target` say what a deletion on that side does to the other.
    """

    back: Mapping[str, FieldRule | None] = field(default_factory=dict)
    conflicts: Conflicts = "newest"
    owners: Mapping[str, Side] = field(default_factory=dict)
    deleted_at_source: OnDelete = "ignore"
    deleted_at_target: OnDelete = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSpec:
    """A rule that keeps one target object in step with one source object."""

    name: str
    source: Endpoint
    target: Endpoint
    mapping: Mapping[str, FieldRule]
    description: str = ""
    filter: str | None = None
    timezone: str = "UTC"
    on_leave: OnLeave = "keep"
    match: tuple[str, ...] = ()
    mode: Mode = "upsert"
    first_sync: Literal["match", "create"] = "match"
    dedupe: Dedupe | None = None
    contract: str | None = None
    frequency: str = "on_demand"  # realtime | on_demand | a cron line
    max_lag: float = 30.0  # seconds an event may wait before a run takes over from the workers
    compare: Compare | None = None
    on_target_delete: Literal["recreate", "hold", "ignore"] = "recreate"
    drift: Drift = "ignore"  # what a schema that changed does to the sync
    errors: ErrorHandling = field(default_factory=ErrorHandling)
    guards: Guards = field(default_factory=Guards)
    matching: Matching | None = None
    two_way: TwoWay | None = None  # None: from source to target only

    def config_hash(self) -> str:
        """A digest of everything that changes what the sync would write."""
        told = asdict(self)
        for silent in ("description", "frequency", "max_lag", "errors", "guards", "matching", "drift"):
            told.pop(silent)
        if self.two_way is None:  # a one-way sync's digest is what it was before there was another kind
            told.pop("two_way")
        kinds: dict[str, Any] = {name: type(rule).__name__ for name, rule in self.mapping.items()}
        if self.two_way is not None:
            kinds |= {f"back:{name}": type(rule).__name__ for name, rule in self.two_way.back.items()}
        return hashlib.sha256(json.dumps([told, kinds], sort_keys=True, default=str).encode()).hexdigest()[:16]
