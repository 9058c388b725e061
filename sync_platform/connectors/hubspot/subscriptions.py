"""The webhook subscriptions of a public HubSpot app (webhooks API v3, by the developer's API key).

Page: https://developers.hubspot.com/docs/api-reference/webhooks-webhooks-v3/guide
An app has one address for all its subscriptions; a change of a property needs a subscription per property.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sync_platform.connectors.http import Http
from sync_platform.connectors.hubspot.webhooks import STREAMS
from sync_platform.connectors.webhook import Subscription
from sync_platform.errors import ConfigError, ContractError

#: What happens to a whole record, besides changes of its properties.
LIFE: Final = ("creation", "deletion", "merge", "restore")
_PARALLEL: Final = 10
_NAMES: Final = {stream: name for name, stream in STREAMS.items() if name.isalpha()}


class Subscriptions:
    """The subscriptions of one app."""

    def __init__(self, http: Http, *, app_id: str, key: str) -> None:
        self._http = http
        self._root = f"/webhooks/v3/{app_id}"
        self._key = {"hapikey": key}

    def target(self) -> str | None:
        """The address HubSpot calls; None when the app has none yet."""
        try:
            told = self._http.get(f"{self._root}/settings", params=self._key).data
        except ConfigError:  # 404: this app never had settings
            return None
        found = (told or {}).get("targetUrl")
        return str(found) if found else None

    def subscriptions(self) -> list[Subscription]:
        """Every subscription of the app, paused ones too."""
        told = self._http.get(f"{self._root}/subscriptions", params=self._key).data
        rows = (told or {}).get("results")
        if not isinstance(rows, list):
            raise ContractError("hubspot answered the list of subscriptions without results")
        return [_subscription(row) for row in rows]

    def subscribe(self, url: str, wanted: Mapping[str, Sequence[str]]) -> list[Subscription]:
        """Sets the address, and adds a subscription for each record event and each field that has none."""
        unknown = [stream for stream in wanted if stream not in _NAMES]
        if unknown:
            raise ConfigError(
                f"hubspot's webhooks API v3 knows no object {unknown[0]!r}",
                field="object",
                value=unknown[0],
                mend="use one of: " + ", ".join(sorted(_NAMES)),
            )
        settings = {"targetUrl": url, "throttling": {"maxConcurrentRequests": _PARALLEL}}
        self._http.put(f"{self._root}/settings", params=self._key, json=settings, repeatable=True)
        known = {(one.event, one.field) for one in self.subscriptions()}
        pairs: list[tuple[str, str | None]] = []
        for stream, fields in wanted.items():
            name = _NAMES[stream]
            pairs += [(f"{name}.{verb}", None) for verb in LIFE]
            pairs += [(f"{name}.propertyChange", each) for each in fields]
        return [self._add(event, field) for event, field in pairs if (event, field) not in known]

    def unsubscribe(self, ids: Sequence[str]) -> None:
        """Deletes these subscriptions; the address stays."""
        for each in ids:
            self._http.delete(f"{self._root}/subscriptions/{each}", params=self._key, expect_json=False)

    def _add(self, event: str, field: str | None) -> Subscription:
        body: dict[str, Any] = {"eventType": event, "active": True}
        if field is not None:
            body["propertyName"] = field
        return _subscription(self._http.post(f"{self._root}/subscriptions", params=self._key, json=body).data)


def _subscription(row: Any) -> Subscription:
    if not isinstance(row, dict) or row.get("id") is None or not row.get("eventType"):
        raise ContractError("hubspot answered a subscription without id and eventType")
    named = row.get("propertyName")
    return Subscription(
        id=str(row["id"]),
        event=str(row["eventType"]),
        field=str(named) if named else None,
        active=bool(row.get("active")),
    )
