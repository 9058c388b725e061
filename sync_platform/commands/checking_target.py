"""What `check` asks of targets that are databases: their constraints know more about records than their fields tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from sync_platform.commands.running_several import ordered, references
from sync_platform.connectors.columns import AddsColumns
from sync_platform.connectors.connector import ChecksCreates
from sync_platform.connectors.uniqueness import UniqueTarget
from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.engine.mapping import Problem
    from sync_platform.project import DeclaredSync
    from sync_platform.session import Session


def refuse_unfit_match(session: Session, declared: DeclaredSync) -> None:
    """ConfigError where what looks like a unique constraint over `target.match` cannot be relied on."""
    spec = declared.spec
    connector = session.connector(spec.target.connection)
    if not spec.match or not isinstance(connector, UniqueTarget):
        return
    told = connector.uniqueness(spec.target.object, spec.match)
    if told.problem:
        raise ConfigError(told.problem, field="match", value=", ".join(spec.match), mend=told.mend)


def refuse_unfit_creates(session: Session, declared: DeclaredSync) -> None:
    """ConfigError where the mapping does not give what a new record of the target needs."""
    spec = declared.spec
    connector = session.connector(spec.target.connection)
    if spec.mode != "update" and isinstance(connector, ChecksCreates):
        connector.refuse_creates(spec.target.object, list(spec.mapping))


def check_drift(session: Session, declared: DeclaredSync, schemas: dict[str, pa.Schema]) -> None:
    """Takes the fields that `drift: add_column` will add for granted; ConfigError where the target cannot take them."""
    from sync_platform.engine.drift import missing, refuse_unfit_policy

    refuse_unfit_policy(session, declared.spec)
    if declared.spec.drift == "add_column":
        added = missing(session, declared.spec, schemas["source"], schemas["target"])
        schemas["target"] = pa.schema([*schemas["target"], *[pa.field(name, kind) for name, kind in added.items()]])


def mend_missing(session: Session, declared: DeclaredSync, schemas: dict[str, pa.Schema], problem: Problem) -> Problem:
    """The problem of a mapped field that the target lacks also tells the statement that adds it."""
    from sync_platform.engine.drift import missing

    spec, connector = declared.spec, session.connector(declared.spec.target.connection)
    if problem.field in schemas["target"].names or not isinstance(connector, AddsColumns):
        return problem
    lacking = missing(session, spec, schemas["source"], schemas["target"])
    if problem.field not in lacking:
        return problem
    (ddl,) = connector.column_ddl(spec.target.object, {problem.field: lacking[problem.field]})
    return replace(problem, mend=f"{problem.mend} Or add it: {ddl}; drift: add_column does that by itself")


def target_notes(session: Session, declared: DeclaredSync) -> Iterator[str]:
    """What the target's constraints do not ensure, and what a run adds to it."""
    from sync_platform.engine.drift import missing

    spec = declared.spec
    connector = session.connector(spec.target.connection)
    if spec.drift == "add_column" and isinstance(connector, AddsColumns):
        source, target = (session.connector(end.connection).discover(end.object) for end in (spec.source, spec.target))
        added = missing(session, spec, source, target)
        for ddl in connector.column_ddl(spec.target.object, added):
            yield f"{spec.name}: the next run adds a column to {spec.target}: {ddl}"
    if not spec.match or not isinstance(connector, UniqueTarget):
        return
    if not connector.uniqueness(spec.target.object, spec.match).ensured:
        yield (
            f"{spec.name}: no unique constraint of {spec.target} covers {', '.join(spec.match)}; records are found "
            "by look-ups before a create, and what another program creates at that moment is doubled"
        )


def reference_notes(session: Session, syncs: Mapping[str, DeclaredSync]) -> Iterator[str]:
    """Which syncs are better run together, because the records of one refer to those of another."""
    parents = references(session, {name: declared.spec for name, declared in syncs.items()})
    order = ordered(list(syncs), parents)
    for name in order:
        late = [parent for parent in parents[name] if order.index(parent) > order.index(name)]
        for parent in late:
            yield (
                f"{name} and {parent} write tables that refer to each other; rows wait for those of the other sync, "
                "and without a nullable column for ever"
            )
        first = [parent for parent in parents[name] if parent not in late]
        if first:
            yield (
                f"{name}: rows of {syncs[name].spec.target} refer to rows that {', '.join(first)} writes, and wait for "
                f"them; to run all in order: sync-platform run {' '.join([*first, name])}"
            )
