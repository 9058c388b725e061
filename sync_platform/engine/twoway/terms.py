"""What a two-way sync needs to know of both systems before it decides anything."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from sync_platform.engine.lookups import folded_fields
from sync_platform.engine.twoway.changes import Deciding
from sync_platform.engine.twoway.merging import Rule
from sync_platform.engine.twoway.pairing import Pairing, pairing
from sync_platform.engine.twoway.values import Comparing

if TYPE_CHECKING:
    from sync_platform.engine.spec import Endpoint, SyncSpec
    from sync_platform.session import Session


def pairing_of(
    session: Session, spec: SyncSpec, source: pa.Schema | None = None, target: pa.Schema | None = None
) -> Pairing:
    """The pairs of the sync; staged columns (`source`, `target`) come first, the systems' own descriptions add flags."""
    schemas = [
        _described(session.connector(place.connection).discover(place.object), staged)
        for place, staged in ((spec.source, source), (spec.target, target))
    ]
    return pairing(spec, schemas[0], schemas[1], load=partial(session.project.load, field_name="mapping"))


def _described(told: pa.Schema, staged: pa.Schema | None) -> pa.Schema:
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
    connector = session.connector(place.connection)
    stream = connector.stream(place.object)
    return Comparing(empty_is_null=stream.empty_is_null, folded=frozenset(folded_fields(connector, stream)))


def tells_time(session: Session, place: Endpoint) -> bool:
    """Whether a record's cursor is the time of its last change, so that two sides can be compared by it."""
    connector = session.connector(place.connection)
    cursor = connector.stream(place.object).cursor
    schema = connector.discover(place.object)
    return (
        cursor is not None and cursor.field in schema.names and pa.types.is_timestamp(schema.field(cursor.field).type)
    )
