"""What `check` asks of targets that are databases: their constraints know more about records than their fields tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

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
