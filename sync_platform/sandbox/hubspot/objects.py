"""The object types this simulator serves, and what the vendor returns and searches by default.

https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm lists both for each object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sync_platform.sandbox.hubspot.defaults import COMPANIES, CONTACTS, DEALS, LINE_ITEMS, TICKETS, parse
from sync_platform.sandbox.hubspot.properties import Property
from sync_platform.sandbox.hubspot.refusals import RefusedError, not_built


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectKind:
    """One object type.

    `core`: the fields the control API always shows, null when empty. `required`: a create needs one of each group.
    """

    name: str
    label: str
    type_id: str
    group: str
    modified: str
    default: tuple[str, ...]
    searched: tuple[str, ...]
    core: tuple[str, ...]
    required: tuple[tuple[str, ...], ...]
    read_scope: str
    write_scope: str
    properties: tuple[Property, ...]


def _kind(
    name: str, label: str, type_id: str, table: str, *, default: str, searched: str, core: str, required: str = ""
) -> ObjectKind:
    group = f"{label.lower()}information".replace(" ", "")
    modified = "lastmodifieddate" if name == "contacts" else "hs_lastmodifieddate"
    scope = "tickets" if name == "tickets" else f"crm.objects.{name}"
    return ObjectKind(
        name=name,
        label=label,
        type_id=type_id,
        group=group,
        modified=modified,
        default=(*default.split(), "createdate", modified, "hs_object_id"),
        searched=tuple(searched.split()),
        core=tuple(core.split()),
        required=tuple(tuple(group.split("|")) for group in required.split()),
        read_scope="tickets" if name == "tickets" else f"{scope}.read",
        write_scope="tickets" if name == "tickets" else f"{scope}.write",
        properties=parse(table, group),
    )


KINDS: Final[Mapping[str, ObjectKind]] = {
    kind.name: kind
    for kind in (
        _kind(
            "contacts", "Contact", "0-1", CONTACTS,
            default="email firstname lastname",
            searched="firstname lastname email phone hs_additional_emails fax mobilephone company",
            core="email firstname lastname company phone website jobtitle city country lifecyclestage hs_lead_status "
            "hs_additional_emails",
        ),
        _kind(
            "companies", "Company", "0-2", COMPANIES,
            default="name domain",
            searched="website phone name domain",
            core="name domain website phone city country industry type lifecyclestage",
            required="domain|name",
        ),
        _kind(
            "deals", "Deal", "0-3", DEALS,
            default="dealname amount closedate pipeline dealstage",
            searched="dealname pipeline dealstage description dealtype",
            core="dealname amount closedate pipeline dealstage dealtype",
            required="dealname dealstage",
        ),
        _kind(
            "tickets", "Ticket", "0-5", TICKETS,
            default="subject content hs_pipeline hs_pipeline_stage hs_ticket_category hs_ticket_priority",
            searched="subject content hs_pipeline_stage hs_ticket_category",
            core="subject content hs_pipeline hs_pipeline_stage hs_ticket_priority",
            required="hs_pipeline_stage",
        ),
        _kind(
            "line_items", "Line item", "0-8", LINE_ITEMS,
            default="quantity amount price",
            searched="name description",
            core="name quantity price hs_sku",
        ),
    )
}  # fmt: skip

_ALIASES: Final[Mapping[str, str]] = {
    alias: kind.name
    for kind in KINDS.values()
    for alias in (kind.name, kind.type_id, kind.label.lower().replace(" ", "_"))
}


def object_kind(given: str) -> ObjectKind:
    """The kind a path segment names: plural, singular or type id. Raises RefusedError (400; 501 for custom objects)."""
    name = _ALIASES.get(given.lower())
    if name is not None:
        return KINDS[name]
    if given.startswith(("2-", "p_", "0-")) or given.isalpha():
        raise not_built(f"object type {given}")
    raise RefusedError(400, f"Unable to infer object type from: {given}")
