"""Schemas that change while a sync is in use: it goes on, its target follows, or it waits for a person.

Only what concerns the sync counts. A field that is new at the source may be wanted; one that the sync reads, or writes
at the target, must still be there and of its type. Everything else may change without anybody being asked.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from sync_platform.connectors.columns import AddsColumns
from sync_platform.engine.compiling import bind
from sync_platform.engine.conversion import polars_type
from sync_platform.engine.judging import Judge
from sync_platform.engine.mapping import compile_mapping
from sync_platform.engine.spec import Lookup, SyncSpec, ValueMap
from sync_platform.errors import BlockedError, ConfigError, SyncError
from sync_platform.ledger.shapes import Shape, accept_shape, accepted_shape, go_on, note_drift, paused
from sync_platform.staging.canonical import canonical, fits
from sync_platform.staging.tables import columns
from sync_platform.staging.widen import lossless, widen

if TYPE_CHECKING:
    from sync_platform.session import Session


def heed_drift(session: Session, spec: SyncSpec, staged: pa.Schema) -> None:
    """Does what the sync's `drift` says about schemas that changed; `staged` are the source's columns in the lake.

    `add_column` adds mapped fields that the target lacks. `pause` raises BlockedError for as long as something differs
    that nobody has accepted; the first look accepts what is there.
    """
    if spec.drift == "add_column":
        _add(session, spec, staged)
    elif spec.drift == "pause":
        _pause(session, spec, staged)


# -- adding columns ------------------------------------------------------------------------------


def _add(session: Session, spec: SyncSpec, staged: pa.Schema) -> None:
    connector = session.connector(spec.target.connection)
    target = connector.discover(spec.target.object)
    if set(spec.mapping) <= set(target.names):
        return
    told = session.connector(spec.source.connection).discover(spec.source.object)  # as `check` sees it
    source = pa.schema([*told, *[one for one in staged if one.name not in told.names]])
    fields = missing(session, spec, source, target)
    if fields and isinstance(connector, AddsColumns):
        connector.add_columns(spec.target.object, fields)
        session.say(f"{spec.name}: added to {spec.target}: {', '.join(fields)}")


def missing(session: Session, spec: SyncSpec, source: pa.Schema, target: pa.Schema) -> dict[str, pa.DataType]:
    """The mapped fields that the target lacks, with the types of what the mapping gives for them."""
    known = {name.casefold() for name in target.names}
    lacking = [name for name in spec.mapping if name.casefold() not in known]
    if not lacking:
        return {}
    mapping = compile_mapping(spec, source, None, load=partial(session.project.load, field_name="mapping"))
    shape = {one.name: polars_type(one.type) for one in source}
    found: dict[str, pa.DataType] = {}
    for name in lacking:
        rule = spec.mapping[name]
        if isinstance(rule, Lookup):
            looked = session.connector(rule.connection).discover(rule.object)
            found[name] = next(
                (one.type for one in looked if one.name.casefold() == rule.value.casefold()), pa.string()
            )
        elif isinstance(rule, ValueMap):
            found[name] = pa.string()
        else:
            try:
                found[name] = pl.Series(name, [], dtype=bind(mapping.rules[name], shape).type).to_arrow().type
            except SyncError:  # what is wrong with the rule is told by whoever checks the mapping
                continue
    return found


def refuse_unfit_policy(session: Session, spec: SyncSpec) -> None:
    """ConfigError when the sync's `drift` asks of its target what it cannot do."""
    if spec.drift == "add_column" and not isinstance(session.connector(spec.target.connection), AddsColumns):
        raise ConfigError(
            f"fields cannot be added to {spec.target} by a sync",
            field="drift",
            value=spec.drift,
            mend="add them there, and write drift: ignore or drift: pause",
        )


# -- pausing -------------------------------------------------------------------------------------


def _pause(session: Session, spec: SyncSpec, staged: pa.Schema) -> None:
    now, used = _shape(session, spec), _used(session, spec, staged)
    with session.database.connection() as connection:
        before = accepted_shape(connection, spec.name)
        told = differences(spec, before, now, used) if before is not None else []
        if told:
            note_drift(connection, spec.name, now, told)
        else:
            accept_shape(connection, spec.name, now)
    if told:
        raise BlockedError(
            f"{spec.name} is paused, because a schema changed: {'; '.join(told)}",
            field="drift",
            value=spec.drift,
            mend=f"see whether the mapping still fits, then: sync-platform drift accept {spec.name}",
        )


def accept(session: Session, spec: SyncSpec) -> list[str]:
    """Goes on with the schemas as they are; the differences that were accepted, none where the sync was not paused.

    Staged columns become as wide as the source's fields are now, or text, which holds every value.
    """
    place = spec.source
    with session.database.connection() as connection:
        if not paused(connection, [spec.name]):
            return []
    with session.lake.connect() as con:
        staged = columns(con, place.connection, place.object)
    for one in session.connector(place.connection).discover(place.object):
        kind = canonical(one.type)
        if staged is None or kind is None or one.name not in staged.names:
            continue
        held = staged.field(one.name).type
        if kind != held and (lossless(held, kind) or not fits(kind, held)):
            wider = kind if lossless(held, kind) else pa.string()
            widen(session.lake, place.connection, place.object, one.name, wider)
    with session.database.connection() as connection:
        return go_on(connection, spec.name)


def differences(spec: SyncSpec, before: Shape, now: Shape, used: Collection[str]) -> list[str]:
    """What changed between two shapes that concerns the sync, as sentences; `used` are the source fields it reads."""
    told = [
        f"{spec.source} has a new field {name} ({kind})"
        for name, kind in now["source"].items()
        if name not in before["source"]
    ]
    for side, place, why in (("source", spec.source, "the sync reads"), ("target", spec.target, "the sync writes")):
        for name, kind in before[side].items():
            if name not in (used if side == "source" else spec.mapping):
                continue
            if name not in now[side]:
                told.append(f"{place} no longer has {name}, which {why}")
            elif now[side][name] != kind:
                told.append(f"{place}: {name} is {now[side][name]} now, it was {kind}")
    return told


def _shape(session: Session, spec: SyncSpec) -> Shape:
    """The fields of both sides as their systems describe them now, of the target those that are mapped."""
    source = session.connector(spec.source.connection).discover(spec.source.object)
    target = session.connector(spec.target.connection).discover(spec.target.object)
    only = session.project.stream_options(spec.source).fields
    return {
        "source": {one.name: _type(one) for one in source if only is None or one.name in only},
        "target": {one.name: _type(one) for one in target if one.name in spec.mapping},
    }


def _type(field: pa.Field) -> str:
    """A type as it is staged, so that one that stays the same in the lake is no change."""
    return str(canonical(field.type) or field.type)


def _used(session: Session, spec: SyncSpec, staged: pa.Schema) -> frozenset[str]:
    if spec.two_way is not None:
        return frozenset(staged.names)
    mapping = compile_mapping(spec, staged, None, load=partial(session.project.load, field_name="mapping"))
    return Judge.of(spec, staged).fields.union(*(rule.fields for rule in mapping.rules.values()))
