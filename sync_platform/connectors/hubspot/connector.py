"""The HubSpot connector: one portal, its objects read, looked up and written.

What it is built on, by task: reads in `reading`, look-ups in `lookup`, writes in `writing`, values in
`values`, refusals in `answers`, webhooks in `webhooks`.
"""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr

from sync_platform.connectors.credentials import Auth, StaticToken
from sync_platform.connectors.http import Http
from sync_platform.connectors.hubspot import filters, lookup, webhooks
from sync_platform.connectors.hubspot.answers import GENERAL, SEARCH, read_fault
from sync_platform.connectors.hubspot.api import Api, Heard, Paths
from sync_platform.connectors.hubspot.properties import Property, properties_of, schema
from sync_platform.connectors.hubspot.reading import Reader, Selection
from sync_platform.connectors.hubspot.streams import KEY, MERGED, STREAMS, stream_named
from sync_platform.connectors.hubspot.subscriptions import Subscriptions
from sync_platform.connectors.hubspot.where import Where
from sync_platform.connectors.hubspot.writing import Writer
from sync_platform.connectors.oauth import OAuth, RefreshToken, token_fault
from sync_platform.connectors.rest import RestConnector
from sync_platform.connectors.webhook import Proof, SampleRequest
from sync_platform.errors import ConfigError, ContractError
from sync_platform.model import Change, Event, Health, Outcome, Page, Position, Stream

#: Access tokens live this long when the answer does not say.
TOKEN_LIFETIME = dt.timedelta(minutes=30)


class HubSpot(RestConnector):
    """One HubSpot account, by a static token (private app, service key) or an OAuth app.

    `path_version` is `v3` or a dated version such as `2026-03`. `index_lag_seconds` is how far the
    search index may lie behind the records, `archived_every_seconds` the least time between two walks
    through the archived records (0: after every incremental read). `calls_per_10_seconds` is assumed
    until an answer tells the account's limit. `client_secret` also proves webhooks; while it is being
    changed, `previous_client_secret` is believed, too. `app_id` and `developer_api_key` manage the
    subscriptions of a public app.
    """

    system: ClassVar[str] = "hubspot"
    api_version: ClassVar[str] = "v3"
    events_carry_values: ClassVar[bool] = True
    streams: ClassVar[Mapping[str, Stream]] = MappingProxyType(dict(STREAMS))
    proof: ClassVar[Proof] = Proof.SIGNATURE

    base_url: str = "https://api.hubapi.com"
    access_token: str | None = Field(default=None, repr=False)
    client_id: str | None = None
    client_secret: str | None = Field(default=None, repr=False)
    previous_client_secret: str | None = Field(default=None, repr=False)
    app_id: str | None = None
    developer_api_key: str | None = Field(default=None, repr=False)
    refresh_token: str | None = Field(default=None, repr=False)
    path_version: str = "v3"
    index_lag_seconds: float = 15.0
    archived_every_seconds: float = 0.0
    calls_per_10_seconds: int = 100
    searches_per_second: int = 5

    _api: Api | None = PrivateAttr(default=None)
    _heard: Heard = PrivateAttr(default_factory=Heard)
    _described: dict[str, dict[str, Property]] = PrivateAttr(default_factory=dict)

    def stream(self, name: str) -> Stream:
        """The stream of an object type: contacts, companies, deals, tickets, others by name, custom ones as `2-NNN`."""
        found, lag = stream_named(name), dt.timedelta(seconds=self.index_lag_seconds)
        cursor = replace(found.cursor, lag=lag) if found.cursor is not None else None
        return replace(found, cursor=cursor, lookup_lag=lag if found.lookup_lag else found.lookup_lag)

    def check(self) -> Health:
        """Who the token belongs to. Raises AuthError naming what is missing when HubSpot refuses it."""
        try:
            account = self._calls().account()
        except (ConfigError, ContractError):
            # a token may see its objects though the account's details are not for it
            self._calls().list_page("contacts", ())
            account = {}
        return Health(ok=True, account=str(account.get("portalId") or ""), api_version=self.path_version)

    def discover(self, stream: str) -> pa.Schema:
        """`id` and the object's properties, as strings (the cursor: a time); see `model.Field` for the flags.

        Metadata `vendor_type` of each field holds HubSpot's type (number, bool, datetime, enumeration).
        """
        self._described.pop(stream, None)
        return schema(self.stream(stream), self._properties(stream))

    def read(
        self,
        stream: str,
        since: Position | None = None,
        *,
        fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:
        """Pages of records: everything by the list, changes by the search; see `reading` for the proofs.

        Changes come in the order of ids, not of time: HubSpot's index sorts by times it no longer shows.
        """
        known = self._properties(stream)
        reader = Reader(
            self._calls(),
            self._selection(stream, fields, where, known),
            lag=dt.timedelta(seconds=self.index_lag_seconds),
            archived_every=dt.timedelta(seconds=self.archived_every_seconds),
        )
        yield from reader.pages(since)

    def get(self, stream: str, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The records of these ids by batch/read, strongly consistent. A merged-away id is not answered."""
        found = self.stream(stream)
        return lookup.by_id(self._calls(), found, ids, self._columns(stream, fields))

    def merged(self, stream: str, ids: Sequence[str]) -> Mapping[str, str]:
        """Of these ids those merged away: batch/read answers an old id with the record it went into."""
        return lookup.merged(self._calls(), self.stream(stream), ids)

    def find(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The records whose `field` is one of `values`.

        By id or a unique property (contacts: email): strongly consistent. By any other property:
        through the search index, which may lag `stream(...).lookup_lag` behind.
        """
        found, columns = self.stream(stream), self._columns(stream, [field, *fields])
        return lookup.by_field(self._calls(), found, self._properties(stream), field, values, columns)

    def write(self, stream: str, changes: Sequence[Change]) -> Iterator[Outcome]:
        """One outcome per change, in order; see `writing` for what is raised and what is repeated."""
        writer = Writer(self._calls(), self.stream(stream), self._properties(stream))
        yield from writer.write(changes)

    def preview(self, stream: str, predicate: str) -> str | None:
        """The search filters a predicate becomes, as JSON; None when no part of it can be said."""
        return filters.preview(predicate)

    def verify(
        self, headers: Mapping[str, str], body: bytes, url: str, *, path_secret: str | None = None
    ) -> list[Event]:
        """The events of a webhook (POST) signed with a client secret within the last five minutes."""
        return webhooks.verified_events(headers, body, url, secrets=self._proofs(), now=dt.datetime.now(dt.UTC))

    def sample(self, url: str) -> SampleRequest:
        """A webhook without events, signed with `client_secret` now."""
        return webhooks.sample(url, secret=self._proofs()[0], now=dt.datetime.now(dt.UTC))

    def subscriber(self) -> Subscriptions:
        """The app's subscriptions. HubSpot manages them for public apps only, by the developer's key."""
        if not (self.app_id and self.developer_api_key):
            raise ConfigError(
                "unavailable: hubspot's webhooks API needs the id of a public app and its developer's API key",
                field="developer_api_key",
                mend="set app_id and developer_api_key; a private app's webhooks are set up in HubSpot's settings only",
            )
        http = self.client(faults=read_fault, secrets=(self.developer_api_key,))
        return Subscriptions(http, app_id=self.app_id, key=self.developer_api_key)

    def _proofs(self) -> tuple[str, ...]:
        found = tuple(each for each in (self.client_secret, self.previous_client_secret) if each)
        if not self.client_secret:
            raise ConfigError(
                "hubspot's webhooks cannot be proved without the app's client_secret",
                field="client_secret",
                mend="set client_secret on the connection",
            )
        return found

    def open_http(self) -> Http:
        """The client of this account: its token, its limits, its refusals."""
        self.quota.learn(SEARCH, limit=self.searches_per_second, per_seconds=1.0, remaining=None)
        self.quota.learn(GENERAL, limit=self.calls_per_10_seconds, per_seconds=10.0, remaining=None)
        known = (self.access_token, self.client_secret, self.previous_client_secret, self.refresh_token)
        secrets = tuple(each for each in known if each)
        return self.client(auth=self._auth(), faults=read_fault, observe=self._heard, secrets=secrets)

    def _auth(self) -> Auth:
        if self.access_token:
            return StaticToken(self.access_token)
        if self.client_id and self.client_secret and self.refresh_token:
            return OAuth(
                self.client(faults=token_fault),
                Paths(self.path_version).token(),
                grant=RefreshToken(
                    client_id=self.client_id, client_secret=self.client_secret, refresh_token=self.refresh_token
                ),
                store=self.tokens,
                lifetime=TOKEN_LIFETIME,
            )
        raise ConfigError(
            "hubspot has no credentials",
            field="access_token",
            mend="set access_token, or client_id, client_secret and refresh_token of an OAuth app",
        )

    def _calls(self) -> Api:
        if self._api is None:
            self._api = Api(self.http, Paths(self.path_version), self._heard)
        return self._api

    def _properties(self, stream: str) -> dict[str, Property]:
        if stream not in self._described:
            self._described[stream] = properties_of(self.stream(stream), self._calls().properties(stream))
        return self._described[stream]

    def _columns(self, stream: str, fields: Sequence[str]) -> tuple[str, ...]:
        """The fields without `id` and repeats; ConfigError for one HubSpot does not know."""
        known = self._properties(stream)
        for name in fields:
            if name not in known and name != KEY:
                near = difflib.get_close_matches(name, known, n=1)
                raise ConfigError(
                    f"hubspot/{stream} has no property {name!r}",
                    field="fields",
                    value=name,
                    mend=f"did you mean {near[0]}?" if near else "use the property's internal name",
                )
        return tuple(dict.fromkeys(name for name in fields if name != KEY))

    def _selection(
        self, stream: str, fields: Sequence[str] | None, where: str | None, known: Mapping[str, Property]
    ) -> Selection:
        cursor = self.stream(stream).cursor
        if cursor is None:
            raise ContractError(f"hubspot/{stream} has no cursor")
        wanted = (cursor.field, *(tuple(known) if fields is None else self._columns(stream, fields)))
        condition = Where.parse(where, {KEY: None, **known}) if where is not None else None
        also = (MERGED,) if MERGED in known else ()
        read_by_filter = condition.columns if condition is not None else ()
        asked = dict.fromkeys(name for name in (*wanted, *also, *read_by_filter) if name != KEY)
        return Selection(
            object_type=stream,
            cursor=cursor.field,
            wanted=tuple(dict.fromkeys(wanted)),
            asked=tuple(asked),
            where=condition,
        )
