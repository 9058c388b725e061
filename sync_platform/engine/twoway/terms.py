"""What a two-way sync needs to know of both systems before it decides anything."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from sync_platform.engine.twoway.changes import Deciding
from sync_platform.engine.twoway.merging import Rule
from sync_platform.engine.twoway.pairing import Pairing, pairing
from sync_platform.engine.twoway.values import Comparing
from sync_platform.model import Field

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint, SyncSpec
    from sync_platform.session import Session


def pairing_of(
    session: Session, spec: SyncSpec, source: pa.Schema | None = None, target: pa.Schema | None = None
) -> Pairing:
    """The pairs of the sync, over what the systems describe and the columns that are staged (`source`, `target`)."""
    kept = f"pairing {spec.name} {spec.config_hash()}"
    if kept not in session.kept:
        session.kept[kept] = _pairing_of(session, spec, source, target)
    found: Pairing = session.kept[kept]
    return found


def _pairing_of(session: Session, spec: SyncSpec, source: pa.Schema | None, target: pa.Schema | None) -> Pairing:
    schemas = [
        _joined(described(session, place), staged) for place, staged in ((spec.source, source), (spec.target, target))
    ]
    return pairing(spec, schemas[0], schemas[1], load=partial(session.project.load, field_name="mapping"))


def described(session: Session, place: Endpoint) -> pa.Schema:
    """The fields of an object as its system describes them, asked once a session."""
    kept = f"described {place}"
    if kept not in session.kept:
        session.kept[kept] = session.connector(place.connection).discover(place.object)
    found: pa.Schema = session.kept[kept]
    return found


def _joined(told: pa.Schema, staged: pa.Schema | None) -> pa.Schema:
    """The fields a system describes, and those that are staged although it does not."""
    return told if staged is None else pa.schema([*told, *[f for f in staged if f.name not in told.names]])


def deciding(session: Session, spec: SyncSpec, found: Pairing) -> Deciding:
    """The sync's terms for merging records."""
    assert spec.two_way is not None
    return Deciding(
        pairing=found,
        rule=Rule(two_way=spec.two_way, source=comparing(session, spec.source), target=comparing(session, spec.target)),
    )


def comparing(session: Session, place: Endpoint) -> Comparing:
    """How a system compares values of one of its objects."""
    kept = f"comparing {place}"
    if kept not in session.kept:
        stream = session.connector(place.connection).stream(place.object)
        folded = frozenset(f.name for f in map(Field.from_arrow, described(session, place)) if f.folded)
        session.kept[kept] = Comparing(empty_is_null=stream.empty_is_null, folded=folded)
    found: Comparing = session.kept[kept]
    return found


def tells_time(session: Session, place: Endpoint) -> bool:
    """Whether a record's cursor is the time of its last change, so that two sides can be compared by it."""
    kept = f"tells time {place}"
    if kept not in session.kept:
        cursor = session.connector(place.connection).stream(place.object).cursor
        moments = [one.name for one in described(session, place) if pa.types.is_timestamp(one.type)]
        session.kept[kept] = cursor is not None and cursor.field in moments
    return bool(session.kept[kept])
