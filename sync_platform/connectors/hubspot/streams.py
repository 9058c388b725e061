"""The objects of a HubSpot account and their habits."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sync_platform.errors import ConfigError
from sync_platform.model import Cursor, Deletes, Repeat, Stream

#: How far the search index may lie behind the records, unless the connection says otherwise.
INDEX_LAG: Final = dt.timedelta(seconds=15)

KEY: Final = "id"
OBJECT_ID: Final = "hs_object_id"
MERGED: Final = "hs_merged_object_ids"

#: Properties that are unique though the properties API does not always say so.
UNIQUE: Final[Mapping[str, frozenset[str]]] = MappingProxyType({"contacts": frozenset({"email"})})

#: Properties a create is refused without; the properties API does not name them. An unset pipeline is the default one.
REQUIRED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"deals": frozenset({"dealname", "dealstage"}), "tickets": frozenset({"subject", "hs_pipeline_stage"})}
)

_OBJECT_NAME: Final = re.compile(r"\d+-\d+|p\d*_?[A-Za-z0-9_]+|[a-z][a-z0-9_]*")


def _stream(name: str, *, cursor: str = "hs_lastmodifieddate", natural_keys: tuple[str, ...] = ()) -> Stream:
    return Stream(
        name=name,
        key=(KEY,),
        cursor=Cursor(field=cursor, lag=INDEX_LAG),
        deletes=Deletes.FEED,
        merged_ids=MERGED,
        natural_keys=natural_keys,
        repeat=Repeat.LOOKUP,
        lookup_lag=INDEX_LAG,
    )


#: An e-mail address belongs to one contact, and the look-up by it does not go through the index.
_CONTACTS: Final = Stream(
    name="contacts",
    key=(KEY,),
    cursor=Cursor(field="lastmodifieddate", lag=INDEX_LAG),
    deletes=Deletes.FEED,
    merged_ids=MERGED,
    natural_keys=("email",),
    repeat=Repeat.LOOKUP,
)

STREAMS: Final[Mapping[str, Stream]] = MappingProxyType(
    {
        "contacts": _CONTACTS,
        "companies": _stream("companies", natural_keys=("domain",)),
        "deals": _stream("deals"),
        "tickets": _stream("tickets"),
    }
)


def stream_named(name: str) -> Stream:
    """The stream of an object type: a known one, or a custom object (`2-123`) with the usual habits.

    Raises ConfigError when no HubSpot object can have that name.
    """
    if name in STREAMS:
        return STREAMS[name]
    if not _OBJECT_NAME.fullmatch(name):
        raise ConfigError(
            f"hubspot has no object {name!r}",
            field="object",
            value=name,
            mend="use one of: " + ", ".join(sorted(STREAMS)) + ", another object type (line_items), or 2-NNN",
        )
    return _stream(name)
