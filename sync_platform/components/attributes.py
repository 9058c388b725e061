"""The YAML of a Sync and a Source as pydantic models: editor schema, docs and line-numbered errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from sync_platform.components.fitting import WrongKeyError, refuse_filtered_target, refuse_unfit
from sync_platform.engine.spec import (
    Constant,
    Dedupe,
    Endpoint,
    ErrorHandling,
    Expression,
    FieldRule,
    Guards,
    Kind,
    Lookup,
    MatchField,
    Matching,
    SyncSpec,
    Transform,
    TwoWay,
    ValueMap,
)


class Strict(BaseModel):
    """A model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, coerce_numbers_to_str=True)


#: What an editor and `dg check yaml` accept as a share.
_SHARE: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"},
        {"type": "null"},
    ]
}


def _percentage(value: object) -> object:
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)):
        return float(found[1]) / 100
    return value


def _timezone(value: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{value!r} is not a time zone; write e.g. UTC or Europe/Berlin") from None
    return value


def _frequency(value: str) -> str:
    if value in {"realtime", "on_demand"} or _is_cron(value):
        return value
    raise ValueError(f"{value!r} is no frequency; write realtime, on_demand or a cron line such as '0 * * * *'")


def _cron(value: str | None) -> str | None:
    if value is None or _is_cron(value):
        return value
    raise ValueError(f"{value!r} is no cron line; write minute, hour, day, month and weekday, such as '0 3 * * *'")


def _is_cron(value: str) -> bool:
    from dagster._utils.schedules import is_valid_cron_string

    return is_valid_cron_string(value)


class SourceEnd(Strict):
    """Where the records come from."""

    connection: str = Field(description="A name defined in resources/")
    object: str = Field(description="The vendor's object, e.g. Lead")
    filter: str | None = Field(None, description="SQL predicate; date words such as YESTERDAY are allowed")
    on_leave: Literal["keep", "archive", "delete"] = Field(
        "keep", description="What happens at the target to a record that leaves the filter"
    )
    timezone: Annotated[str, AfterValidator(_timezone)] = Field("UTC", description="Zone in which date words are days")


class TargetEnd(Strict):
    """Where the records go."""

    connection: str
    object: str
    match: list[str] = Field(default_factory=list, description="Target fields that identify a record")


class ValueMapRule(Strict):
    """Translate values: `{from: Status, values: {Open: lead}, default: lead}`."""

    from_: str = Field(alias="from", description="SQL over source fields")
    values: dict[str, str | None] = Field(json_schema_extra={"propertyNames": {"type": "string"}})
    default: str | None = None


class ConstantRule(Strict):
    """A fixed value: `{constant: crm}`."""

    constant: str | int | float | bool | None


class LookupRule(Strict):
    """A field of another staged object: `{lookup: Account, by: AccountId, key: Id, value: Name}`.

    It is `by` because YAML reads a bare `on` as true.
    """

    lookup: str = Field(description="The object to look in, e.g. Account")
    by: str = Field(description="SQL over source fields")
    key: str = Field("Id", description="The looked-up object's field that `by` is compared with")
    value: str = Field(description="The looked-up object's field to take")
    connection: str | None = Field(None, description="Defaults to the source's connection")


class TransformRule(Strict):
    """A named Python function: `{transform: checks.transforms.phone, arguments: [Phone]}`."""

    transform: str
    arguments: list[str] = Field(min_length=1)


Rule = str | ValueMapRule | ConstantRule | LookupRule | TransformRule


class DedupeRule(Strict):
    """Which source records are one thing: `{by: lower(trim(Email)), keep: newest}`."""

    by: str
    keep: Literal["newest", "oldest", "most_complete"] = "newest"


class GuardRules(Strict):
    """Limits beyond which a plan is blocked."""

    max_deletes: int | None = Field(10, ge=0)
    max_invalid: Annotated[float | None, BeforeValidator(_percentage), WithJsonSchema(_SHARE)] = Field(
        None,
        ge=0,
        le=1,
        description="A larger share of invalid records, ten at least, blocks the plan: 5% or 0.05",
    )


class MatchingRules(Strict):
    """What makes a new record look like one the target has already: `{fields: [email, lastname, phone]}`."""

    fields: list[str] = Field(min_length=1, description="Target fields that are compared; the mapping fills them")
    kinds: dict[str, Kind] = Field(
        default_factory=dict,
        description="What a field holds, where its name does not tell: email, phone, name or text",
    )
    likely: Annotated[float, BeforeValidator(_percentage), WithJsonSchema(_SHARE)] = Field(
        0.9, ge=0, le=1, description="From this score on two records are probably the same"
    )
    possible: Annotated[float, BeforeValidator(_percentage), WithJsonSchema(_SHARE)] = Field(
        0.5, ge=0, le=1, description="From this score on a person decides; below it they are not the same"
    )

    def to_spec(self) -> Matching:
        """The plain value the engine works with."""
        from sync_platform.matching.forms import kind_of

        fields = tuple(MatchField(name=name, kind=self.kinds.get(name, kind_of(name))) for name in self.fields)
        return Matching(fields=fields, likely=self.likely, possible=self.possible)


class ErrorRules(Strict):
    """Retries, back-off and whom to tell."""

    retries: int = Field(5, ge=0, le=20)
    backoff_seconds: float = Field(1.0, ge=0)
    alert: list[str] = Field(
        default_factory=list,
        description="Whom to tell: apprise URLs, env:VARIABLE, or a name N whose URL is in SYNC_ALERT_N",
    )


class OwnerRules(Strict):
    """Which side decides a field that both changed: `{owner: {Phone: source, company: target}}`."""

    owner: dict[str, Literal["source", "target"]] = Field(min_length=1)
    otherwise: Literal["newest", "source", "target", "ask"] = "newest"


class DeleteRules(Strict):
    """What a deletion on one side does to the record on the other."""

    source: Literal["propagate", "archive", "ignore"] = Field("ignore", description="A record deleted at the source")
    target: Literal["propagate", "archive", "ignore"] = Field("ignore", description="A record deleted at the target")


class SyncAttributes(Strict):
    """A rule that keeps one target object in step with one source object."""

    name: str | None = Field(None, description="Defaults to the folder's name", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    description: str = ""
    source: SourceEnd
    target: TargetEnd
    direction: Literal["one_way", "two_way"] = "one_way"
    back: dict[str, Rule | None] = Field(
        default_factory=dict,
        description="Two-way: source field: SQL over target fields; plain renames need none, null makes it one-way",
    )
    conflicts: Literal["newest", "source", "target", "ask"] | OwnerRules = Field(
        "newest", description="Two-way: who decides a field that both sides changed"
    )
    on_delete: DeleteRules = Field(default_factory=DeleteRules)
    mode: Literal["insert", "update", "upsert", "mirror", "archive", "fill_empty"] = "upsert"
    first_sync: Literal["match", "create"] = "match"
    mapping: dict[str, Rule] = Field(min_length=1)
    dedupe: DedupeRule | None = None
    contract: str | None = Field(None, description="A pandera model, e.g. checks.hubspot.Contact")
    frequency: Annotated[str, AfterValidator(_frequency)] = "on_demand"
    max_lag: float = Field(
        30.0, gt=0, description="Seconds an event of a realtime sync may wait before a run is started that delivers it"
    )
    compare: Literal["target", "links"] | None = None
    on_target_delete: Literal["recreate", "hold", "ignore"] = "recreate"
    drift: Literal["ignore", "add_column", "pause"] = Field(
        "ignore",
        description="A schema changed: go on, add mapped fields that the target lacks, or wait for a person",
    )
    errors: ErrorRules = Field(default_factory=ErrorRules)
    guards: GuardRules = Field(default_factory=GuardRules)
    matching: MatchingRules | None = None

    @model_validator(mode="before")
    @classmethod
    def _texts_are_quoted(cls, data: Any) -> Any:
        """YAML reads a bare yes, no, on or off as true or false: what was written is lost, so it must be quoted."""
        for key in ("mapping", "back"):
            mapping = data.get(key) if isinstance(data, dict) else None
            for path, value in _texts(mapping) if isinstance(mapping, dict) else ():
                if isinstance(value, bool):
                    raise WrongKeyError(
                        f"YAML reads a bare yes, no, on, off, true or false as {str(value).lower()!r}, not as text; "
                        "put it in quotes, e.g. 'Yes'",
                        (key, *path),
                        value,
                    )
        return data

    @model_validator(mode="after")
    def _match_is_mapped(self) -> SyncAttributes:
        unmapped = [name for name in self.target.match if name not in self.mapping]
        if unmapped:
            raise WrongKeyError(
                f"it names {unmapped[0]!r}, which the mapping does not fill; add it to mapping",
                ("target", "match"),
                unmapped[0],
            )
        return self

    @model_validator(mode="after")
    def _matching_fits(self) -> SyncAttributes:
        rules = self.matching
        if rules is None:
            return self
        for key, names, known, where in (
            ("fields", rules.fields, self.mapping, "which the mapping does not fill; add it to mapping"),
            ("kinds", list(rules.kinds), rules.fields, "which is not among fields"),
        ):
            unknown = [name for name in names if name not in known]
            if unknown:
                raise WrongKeyError(f"it names {unknown[0]!r}, {where}", ("matching", key), unknown[0])
        if rules.possible > rules.likely:
            raise WrongKeyError("it must not be above likely", ("matching", "possible"), rules.possible)
        if self.compare == "links":
            raise WrongKeyError("matching reads the whole target; write compare: target", ("compare",), self.compare)
        return self

    @model_validator(mode="before")
    @classmethod
    def _target_is_not_filtered(cls, data: Any) -> Any:
        refuse_filtered_target(data)
        return data

    @model_validator(mode="after")
    def _direction_fits(self) -> SyncAttributes:
        refuse_unfit(self)
        return self

    def _two_way(self) -> TwoWay | None:
        if self.direction == "one_way":
            return None
        owned = self.conflicts if isinstance(self.conflicts, OwnerRules) else None
        return TwoWay(
            back={n: None if rule is None else _rule(rule, self.target.connection) for n, rule in self.back.items()},
            conflicts=owned.otherwise if owned else self.conflicts,  # type: ignore[arg-type]
            owners=owned.owner if owned else {},
            deleted_at_source=self.on_delete.source,
            deleted_at_target=self.on_delete.target,
        )

    def to_spec(self, default_name: str) -> SyncSpec:
        """The plain value the engine works with."""
        return SyncSpec(
            name=self.name or default_name,
            description=self.description,
            source=Endpoint(connection=self.source.connection, object=self.source.object),
            target=Endpoint(connection=self.target.connection, object=self.target.object),
            mapping={field: _rule(rule, self.source.connection) for field, rule in self.mapping.items()},
            filter=self.source.filter,
            timezone=self.source.timezone,
            on_leave=self.source.on_leave,
            match=tuple(self.target.match),
            mode=self.mode,
            first_sync=self.first_sync,
            dedupe=Dedupe(by=self.dedupe.by, keep=self.dedupe.keep) if self.dedupe else None,
            contract=self.contract,
            frequency=self.frequency,
            max_lag=self.max_lag,
            compare=self.compare or ("target" if self.matching else None),
            on_target_delete=self.on_target_delete,
            drift=self.drift,
            errors=ErrorHandling(
                retries=self.errors.retries,
                backoff_seconds=self.errors.backoff_seconds,
                alert=tuple(self.errors.alert),
            ),
            guards=Guards(max_deletes=self.guards.max_deletes, max_invalid=self.guards.max_invalid),
            matching=self.matching.to_spec() if self.matching else None,
            two_way=self._two_way(),
        )


def _texts(mapping: dict[Any, Any]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Whatever must be text in a mapping, with its path: target fields, expressions, a value map's keys and values."""
    for field, rule in mapping.items():
        yield (str(field),), field
        if not isinstance(rule, dict):
            yield (str(field),), rule
            continue
        yield from (((str(field), str(key)), key) for key in rule)
        values = rule.get("values")
        for given, wanted in values.items() if isinstance(values, dict) else ():
            yield (str(field), "values", str(given)), given
            yield (str(field), "values", str(given)), wanted
        yield (str(field), "default"), rule.get("default")


def _rule(rule: Any, connection: str) -> FieldRule:
    if isinstance(rule, ValueMapRule):
        return ValueMap(
            source=rule.from_,
            values=rule.values,
            default=rule.default,
            has_default="default" in rule.model_fields_set,
        )
    if isinstance(rule, ConstantRule):
        return Constant(value=rule.constant)
    if isinstance(rule, LookupRule):
        return Lookup(
            connection=rule.connection or connection, object=rule.lookup, on=rule.by, key=rule.key, value=rule.value
        )
    if isinstance(rule, TransformRule):
        return Transform(function=rule.transform, arguments=tuple(rule.arguments))
    return Expression(sql=rule)


class StreamOptions(Strict):
    """One staged object of a source."""

    object: str
    fields: list[str] | None = Field(None, description="Default: every readable field")
    filter: str | None = Field(None, description="Part of what the stream is; applies to every read")
    schedule: str | None = Field(None, description="A cron line; syncs load what they need anyway")
    full_read: Annotated[str | None, AfterValidator(_cron)] = Field(
        None, description="A cron line (UTC): the first load after each tick reads everything and finds what is gone"
    )


class SourceAttributes(Strict):
    """The objects of one connection that are staged."""

    connection: str
    description: str = ""
    streams: list[StreamOptions] = Field(min_length=1)
