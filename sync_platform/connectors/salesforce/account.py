"""The Salesforce connector: one org, seen through one integration user."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import dagster as dg
import pyarrow as pa
from pydantic import Field, PrivateAttr

from sync_platform.connectors.ahead import ahead
from sync_platform.connectors.faults import Answer
from sync_platform.connectors.http import Http
from sync_platform.connectors.oauth import ClientCredentials, Grant, OAuth, RefreshToken, token_fault
from sync_platform.connectors.rest import RestConnector, table_of
from sync_platform.connectors.salesforce import bulk, outbound, reading
from sync_platform.connectors.salesforce.describe import Shape, shape_of
from sync_platform.connectors.salesforce.faults import salesforce_fault
from sync_platform.connectors.salesforce.marks import Mark
from sync_platform.connectors.salesforce.soql import condition, pushable
from sync_platform.connectors.salesforce.writing import BATCH, Writing
from sync_platform.connectors.shared import Quota
from sync_platform.connectors.webhook import Acknowledgement, Proof, SampleRequest, Subscriber
from sync_platform.errors import ConfigError
from sync_platform.model import Change, Cursor, Deletes, Event, Health, Outcome, Page, Position, Repeat, Stream

_LAG: Final = dt.timedelta(seconds=600)
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{16,}")
_USAGE: Final = re.compile(r"api-usage=(\d+)/(\d+)")


def _stream(name: str, *, natural: tuple[str, ...] = (), shape: Shape | None = None) -> Stream:
    field = shape.cursor if shape is not None else "SystemModstamp"
    cursor = Cursor(field=field, granularity=dt.timedelta(milliseconds=1), inclusive=True, lag=_LAG) if field else None
    soft = shape is None or shape.soft_deletes
    return Stream(
        name=name,
        key=("Id",),
        cursor=cursor,
        deletes=Deletes.TOMBSTONE if soft and cursor else Deletes.ABSENCE,
        natural_keys=natural,
        batch_size=BATCH,
        repeat=Repeat.LOOKUP,  # SOQL finds a row in the second it was inserted
        writable=shape is None or shape.writable,
    )


class Salesforce(RestConnector):
    """One Salesforce org.

    `base_url` is the My Domain address (client credentials work only there). With `refresh_token` the app
    acts for the person who authorised it, otherwise for the app's run-as user. `late_commit_seconds`: how
    long a transaction may stay open before it commits rows stamped earlier. `bulk_above`: reads of more
    rows than this go through Bulk API 2.0. `webhook_secret` ends the address of Outbound Messages; while it is
    being changed, `previous_webhook_secret` is believed, too. `organization_id`: messages of others are refused.
    """

    system: ClassVar[str] = "salesforce"
    streams: ClassVar[Mapping[str, Stream]] = {
        "Lead": _stream("Lead", natural=("Email",)),
        "Contact": _stream("Contact", natural=("Email",)),
    }
    proof: ClassVar[Proof] = Proof.PATH

    base_url: str = Field(description="https://your-domain.my.salesforce.com")
    client_id: str = Field(description="Consumer key of the external client app")
    client_secret: str = Field(repr=False, description="Consumer secret of the external client app")
    refresh_token: str | None = Field(default=None, repr=False, description="Of a person who authorised the app")
    webhook_secret: str | None = Field(default=None, repr=False, description="Last segment of the webhooks' address")
    previous_webhook_secret: str | None = Field(default=None, repr=False)
    organization_id: str | None = Field(default=None, description="00D…, of Setup > Company Information")
    api_version: str = Field(default="66.0", description="REST API version, such as 66.0")  # type: ignore[misc]
    late_commit_seconds: int = Field(default=600, ge=0)
    bulk_above: int = Field(default=reading.PAGE_ROWS, ge=0)

    _shapes: dict[str, Shape] = PrivateAttr(default_factory=dict)
    _waiting: bulk.Waiting = PrivateAttr(default_factory=bulk.Waiting)

    def open_http(self) -> Http:
        """The client of this org: token from /services/oauth2/token, data calls to its instance_url."""
        login = self.client(faults=token_fault, secrets=self._secrets())
        grant: Grant
        if self.refresh_token:
            grant = RefreshToken(
                client_id=self.client_id, client_secret=self.client_secret, refresh_token=self.refresh_token
            )
        else:
            grant = ClientCredentials(client_id=self.client_id, client_secret=self.client_secret)
        auth = OAuth(login, "/services/oauth2/token", grant=grant, store=self.tokens, base_url="instance_url")
        return self.client(auth=auth, faults=salesforce_fault, observe=_usage, gzip_over=2048, secrets=self._secrets())

    def check(self) -> Health:
        """Who we are, whether the API version is served, and how much of the day's calls is left."""
        answer = self.http.get(f"{self._root}/limits")
        problems = []
        served = {str(entry.get("version")) for entry in self.http.get("/services/data/").data or []}
        if served and self._version not in served:
            newest = max(served, key=_numeric)
            problems.append(f"API version {self._version} is not served here; set api_version to {newest}")
        daily = (answer.data or {}).get("DailyApiRequests") or {}
        if daily.get("Max") and daily.get("Remaining", 0) * 10 < daily["Max"]:
            problems.append(f"only {daily['Remaining']} of {daily['Max']} API calls of 24 hours are left")
        token = self.tokens.load()
        identity = (token.extra or {}).get("id", "") if token is not None else ""
        return Health(
            ok=not problems,
            account="/".join(identity.rstrip("/").split("/")[-2:]),
            api_version=self._version,
            problems=tuple(problems),
        )

    def stream(self, name: str) -> Stream:
        """Lead and Contact as declared; any other object as its describe shows it (one call, kept).

        Before `connect` nothing is asked of the org: the answer then holds what every object has in common.
        """
        if name in self.streams:
            return self.streams[name]
        if any(isinstance(value, dg.EnvVar) for value in (self.base_url, self.client_id, self.client_secret)):
            return _stream(name)
        shape = self.shape(name)
        return _stream(shape.name, natural=shape.external, shape=shape)

    def shape(self, name: str) -> Shape:
        """The object as this user sees it, asked for once."""
        if name not in self._shapes:
            if not re.fullmatch(r"\w+", name):
                raise ConfigError(f"salesforce has no object {name!r}", field="object", value=name)
            try:
                described = self.http.get(f"{self._root}/sobjects/{name}/describe").data
            except ConfigError as wrong:
                raise ConfigError(
                    f"salesforce has no object {name!r} that this user may see: {wrong.message}",
                    field="object",
                    value=name,
                    mend="check the object's API name (custom ones end in __c), the user's permission and api_version",
                ) from None
            self._shapes[name] = shape_of(described)
        return self._shapes[name]

    def discover(self, stream: str) -> pa.Schema:
        """The object's fields, custom ones too, without compound and file fields; always asked anew."""
        self._shapes.pop(stream, None)
        return self.shape(stream).schema

    def read(
        self,
        stream: str,
        since: Position | None = None,
        *,
        fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:
        """Changed rows with tombstones, by REST or Bulk as their number asks for (see `reading`, `bulk`)."""
        shape = self.shape(stream)
        job = reading.Reading(
            http=self.http,
            root=self._root,
            shape=shape,
            schema=reading.columns_of(shape, fields),
            where=condition(where, shape) if where else "",
            lag=dt.timedelta(seconds=self.late_commit_seconds),
            show_flag=fields is None or "isdeleted" in {name.lower() for name in fields},
        )
        mark = Mark.of(since)
        full = since is None or shape.cursor is None
        try:
            yield from self._pages(job, mark, full=full)
        except ConfigError:
            self._shapes.pop(stream, None)  # the object may have changed: the next read describes it anew
            raise

    def get(self, stream: str, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The live records of these ids."""
        return self._rows(stream, "Id", ids, fields)

    def merged(self, stream: str, ids: Sequence[str]) -> Mapping[str, str]:
        """Of these ids those merged away, as the recycle bin tells: `MasterRecordId` is the record that survives."""
        return reading.merged(self.http, self._root, self.shape(stream), list(ids))

    def find(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The live records whose `field` is one of `values`; Salesforce compares text without case."""
        return self._rows(stream, field, values, fields)

    def write(self, stream: str, changes: Sequence[Change]) -> Iterator[Outcome]:
        """Collections calls of up to 200 records, one outcome each (see `writing`)."""
        return Writing(http=self.http, root=self._root, shape=self.shape(stream)).write(changes)

    def preview(self, stream: str, predicate: str) -> str | None:
        """The SOQL condition that lets through at least what the predicate does; None when there is none."""
        return pushable(predicate, self.shape(stream))

    def verify(
        self, headers: Mapping[str, str], body: bytes, url: str, *, path_secret: str | None = None
    ) -> list[Event]:
        """The events of an Outbound Message that came to the secret address (see `outbound`)."""
        return outbound.accepted_events(
            body,
            given=path_secret,
            secrets=self._webhook_secrets(),
            organization=self.organization_id,
            now=dt.datetime.now(dt.UTC),
        )

    def acknowledge(self) -> Acknowledgement:
        """The SOAP answer without which Salesforce sends the message again for 24 hours."""
        return outbound.ACKNOWLEDGEMENT

    def sample(self, url: str) -> SampleRequest:
        """An Outbound Message without notifications, to the secret address below `url`."""
        return outbound.sample(url, secret=self._webhook_secrets()[0], organization=self.organization_id)

    def subscriber(self) -> Subscriber:
        """ConfigError: Outbound Messages are set up by a person."""
        raise ConfigError(
            "unavailable: salesforce's outbound messages are part of a flow or workflow rule and set up by a person",
            field="webhooks",
            mend="in Setup give the outbound message <public URL>/webhooks/<connection>/<webhook_secret> as endpoint",
        )

    @property
    def _version(self) -> str:
        text = self.api_version.lower().removeprefix("v")
        if not re.fullmatch(r"\d+(\.0)?", text):
            raise ConfigError(
                f"api_version {self.api_version!r} is not a Salesforce API version",
                field="api_version",
                value=self.api_version,
                mend="write it as 66.0",
            )
        return text if "." in text else f"{text}.0"

    @property
    def _root(self) -> str:
        return f"/services/data/v{self._version}"

    def _secrets(self) -> tuple[str, ...]:
        known = (self.client_secret, self.refresh_token, self.webhook_secret, self.previous_webhook_secret)
        return tuple(value for value in known if value)

    def _webhook_secrets(self) -> tuple[str, ...]:
        found = tuple(each for each in (self.webhook_secret, self.previous_webhook_secret) if each)
        if not self.webhook_secret or not all(_SECRET.fullmatch(each) for each in found):
            raise ConfigError(
                "salesforce's outbound messages are believed by a secret of 16 or more letters, digits, - and _ only",
                field="webhook_secret",
                mend="set webhook_secret on the connection, e.g. to the answer of `openssl rand -hex 24`",
            )
        return found

    def _pages(self, job: reading.Reading, mark: Mark, *, full: bool) -> Iterator[Page]:
        if mark.job is not None or self._many(job, mark):
            files = bulk.Files(http=self.http, root=self._root, waiting=self._waiting)
            yield from ahead(bulk.pages(job, files, mark, full=full), bulk.PARTS_AHEAD)
        else:
            yield from reading.pages(job, mark, full=full)

    def _many(self, job: reading.Reading, mark: Mark) -> bool:
        if not reading.fits(job.soql(mark, ordered=True)):
            return True
        rows = reading.count(job, mark)
        return rows is None or rows > self.bulk_above

    def _rows(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        shape = self.shape(stream)
        schema = reading.columns_of(shape, [*fields, field])
        named = next(name for name in schema.names if name.lower() == field.lower())
        if named in shape.unfilterable:
            raise ConfigError(
                f"salesforce/{stream}: {named} cannot be searched by",
                field=named,
                mend="match on a field Salesforce can filter by, best an external id",
            )
        asked = {"Id", named, *_named(schema, fields)}
        schema = pa.schema([one for one in schema if one.name in asked])
        wanted = list(dict.fromkeys(value for value in values if value))
        rows: list[Mapping[str, Any]] = []
        if wanted:
            rows = reading.by_values(self.http, self._root, shape, named, wanted, schema)
        return table_of(rows, schema, where=f"salesforce/{stream}")


def _named(schema: pa.Schema, fields: Sequence[str]) -> set[str]:
    wanted = {name.lower() for name in fields}
    return {name for name in schema.names if name.lower() in wanted}


def _numeric(version: str) -> float:
    return float(version) if re.fullmatch(r"\d+(\.\d+)?", version) else 0.0


def _usage(answer: Answer, quota: Quota | None) -> None:
    """Takes the day's usage over as a gauge: the counter is eventual and wanders, so nothing is paced by it."""
    found = _USAGE.search(answer.headers.get("Sforce-Limit-Info", ""))
    if found and quota is not None:
        used, limit = float(found[1]), float(found[2])
        quota.learn("daily", limit=limit, per_seconds=86_400.0, remaining=limit - used)
