"""Merging records: up to three of one object become one.

SOAP API Developer Guide, "merge()" (https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/
sforce_api_calls_merge.htm) and Help, "Considerations for Merging Duplicate Contacts". The losers go to the recycle bin
with the survivor's id as MasterRecordId, which later merges of the survivor leave as it is; their children follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sync_platform.sandbox.kit_store import Fields, Record
from sync_platform.sandbox.salesforce.metadata import ObjectDef
from sync_platform.sandbox.salesforce.objects import OBJECTS
from sync_platform.sandbox.salesforce.records import check_types
from sync_platform.sandbox.salesforce.refusals import SalesforceError

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

MERGEABLE: Final = ("Lead", "Contact", "Account")  # Case too, at the vendor; the simulator has none


class Merged(NamedTuple):
    """What a merge did: the survivor, the losers, and (object, id) of the children that moved."""

    id: str
    losers: tuple[str, ...]
    children: tuple[tuple[str, str], ...]


def merge(
    org: SalesforceSimulator,
    target: ObjectDef,
    survivor: str,
    losers: Sequence[str],
    prepared: Mapping[str, Any],
    *,
    fill: bool = False,
) -> Merged:
    """Merges `losers` into `survivor`, which takes `prepared` values as in an update.

    `fill`: its blank fields are filled from the losers, the first first. Raises SalesforceError before anything is
    written.
    """
    if target.name not in MERGEABLE:
        raise SalesforceError(400, "INVALID_TYPE", f"{target.name} records cannot be merged", violation=True)
    most = int(org.value("merge_records")) if org.on("merge_records") else 1 << 30
    if not 1 <= len(losers) < most:
        message = f"a merge takes 2 to {most} records, got {len(losers) + 1}"
        raise SalesforceError(400, "NUMBER_OUTSIDE_VALID_RANGE", message, violation=True)
    check_types(prepared)
    master = org.writer.existing(target, survivor)
    gone = [org.writer.existing(target, id) for id in losers]
    if len({master.id, *(record.id for record in gone)}) <= len(gone):
        raise SalesforceError(400, "INVALID_ID_FIELD", "a record cannot be merged with itself", fields=["Id"])
    org.writer.update(target, master.id, prepared)  # the merge's only check that can fail, and the survivor's message
    moment = master.updated_at
    for record in gone:
        org.stores[target.name].patch(record.id, {"MasterRecordId": master.id}, updated_at=moment)
        org.stores[target.name].remove(record.id, updated_at=max(moment, record.updated_at + 1))
    if fill:
        org.stores[target.name].patch(master.id, _blanks(target, master, gone), updated_at=moment)
    if org.on("merge_keeps_oldest_created"):
        master.created_at = min(record.created_at for record in (master, *gone))
    children = _reparent(org, target, master.id, frozenset(record.id for record in gone))
    return Merged(master.id, tuple(record.id for record in gone), children)


def _blanks(target: ObjectDef, master: Record, losers: Sequence[Record]) -> Fields:
    """Values of the losers for the updateable fields that the survivor has none of."""
    found: Fields = {}
    for loser in losers:
        for name, value in loser.fields.items():
            field = target.fields.get(name)
            if field is not None and field.updateable and not field.unique and name not in master.fields:
                found.setdefault(name, value)
    return found


def _reparent(
    org: SalesforceSimulator, target: ObjectDef, survivor: str, losers: frozenset[str]
) -> tuple[tuple[str, str], ...]:
    """Hangs the losers' children below the survivor; which they are."""
    moved = []
    for child in OBJECTS.values():
        links = [f.name for f in child.fields.values() if target.name in f.reference_to and f.name != "MasterRecordId"]
        for record in list(org.stores[child.name].live()) if links else ():
            changed = {name: survivor for name in links if record.fields.get(name) in losers}
            if changed:
                stamp = max(org.write_moment(), record.updated_at + 1) if org.on("merge_moves_children") else None
                org.stores[child.name].patch(record.id, changed, updated_at=stamp)
                moved.append((child.name, record.id))
    return tuple(moved)
