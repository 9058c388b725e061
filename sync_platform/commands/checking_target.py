"""What `check` asks of targets that are databases: their constraints know more about records than their fields tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from sync_platform.commands.running_several import ordered, references
from sync_platform.connectors.connector import ChecksCreates
from sync_platform.connectors.uniqueness import UniqueTarget
from sync_platform.errors import ConfigError

if TYPE_CHECKING:
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


def target_notes(session: Session, declared: DeclaredSync) -> Iterator[str]:
    """What the target's constraints do not ensure."""
    spec = declared.spec
    connector = session.connector(spec.target.connection)
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
