"""What every connector is: one account at one system, able to read, look up and write its streams."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import dagster as dg
import pyarrow as pa
from pydantic import PrivateAttr

from sync_platform.connectors.shared import Quota, Shared, Token, TokenStore, Traffic
from sync_platform.connectors.webhook import Acknowledgement, Proof, SampleRequest, Subscriber
from sync_platform.errors import ConfigError
from sync_platform.model import Change, Event, Health, Outcome, Page, Position, Stream

__all__ = [
    "BulkTarget",
    "ChecksCreates",
    "Connector",
    "Quota",
    "Shared",
    "TellsMerges",
    "Token",
    "TokenStore",
    "Traffic",
]


class Connector(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One account. Its fields are its configuration; obtain one by `project.connect(name)`.

    Used directly, an `EnvVar` field would be sent as the variable's *name*; `connect` resolves it.
    Every method raises only errors of `sync_platform.errors`.
    """

    system: ClassVar[str]
    api_version: ClassVar[str]
    streams: ClassVar[Mapping[str, Stream]]
    #: Whether an event of this vendor tells the new values of text fields just as `get` would answer them.
    events_carry_values: ClassVar[bool] = False
    tells_every_field: ClassVar[bool] = False  # what `discover` does not name is gone, not hidden from this account
    proof: ClassVar[Proof] = Proof.NONE

    _shared: Shared | None = PrivateAttr(default=None)
    _traffic: Traffic = PrivateAttr(default_factory=Traffic)

    @property
    def traffic(self) -> Traffic:
        """Calls, bytes and waiting of this object so far."""
        return self._traffic

    def stream(self, name: str) -> Stream:
        """The stream of that name. A system with custom objects overrides this.

        Raises ConfigError naming the known streams.
        """
        try:
            return self.streams[name]
        except KeyError:
            raise ConfigError(
                f"{self.system} has no object {name!r}",
                field="object",
                value=name,
                mend="use one of: " + ", ".join(sorted(self.streams)),
            ) from None

    @abc.abstractmethod
    def check(self) -> Health:
        """Credentials, permissions and API version, by the cheapest honest request."""

    @abc.abstractmethod
    def discover(self, stream: str) -> pa.Schema:
        """The stream's fields as this account sees them, custom ones too (see `model.Field`)."""

    @abc.abstractmethod
    def read(
        self,
        stream: str,
        since: Position | None = None,
        *,
        fields: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Iterator[Page]:
        """Pages of rows changed since a position, oldest first where the vendor can; None reads all.

        `fields` limits the columns (default: all readable); `where` is the *Source's own* filter, SQL,
        part of what the stream is. Rows may repeat (overlap, ties, shifting pages); none may be missing.
        """

    @abc.abstractmethod
    def get(self, stream: str, ids: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The records of these ids, strongly consistent: the key columns and `fields`.

        Ids that no longer exist are simply not in the answer. Any order.
        """

    @abc.abstractmethod
    def find(self, stream: str, field: str, values: Sequence[str], fields: Sequence[str]) -> pa.Table:
        """The records whose `field` is one of `values`: key columns, `field` and `fields`.

        The look-up before a create. Several rows may answer for one value.
        """

    @abc.abstractmethod
    def write(self, stream: str, changes: Sequence[Change]) -> Iterator[Outcome]:
        """One outcome per change, in the order of `changes`, at most `batch_size` of one `op`.

        Raises UnknownOutcome when the answer was lost after the request may have been received,
        TransientError / RateLimitError when nothing of the batch was stored, AuthError. A refusal
        of one record is an Outcome with status FAILED (or RETRY), never an exception.
        """

    def preview(self, stream: str, predicate: str) -> str | None:
        """The part of a SQL predicate this vendor's query language can take, for display and look-ups."""
        return None

    def probe(self, stream: str) -> str | None:
        """A short text that differs when rows of the stream may have changed since it was asked last.

        For systems that send no events; it must cost next to nothing. None: there is no such question.
        """
        return None

    def verify(
        self, headers: Mapping[str, str], body: bytes, url: str, *, path_secret: str | None = None
    ) -> list[Event]:
        """The events of a webhook that is proved to be the vendor's; AuthError otherwise.

        `url` is the address the vendor called; `path_secret` its last segment where `proof` is PATH. Raises
        ContractError for a body that is not what the vendor sends, ConfigError while the secret is not set.
        """
        raise ConfigError(f"{self.system} sends no webhooks that this connector reads", field="webhooks")

    def acknowledge(self) -> Acknowledgement:
        """The answer by which the vendor knows that its webhook need not be sent again."""
        return Acknowledgement()

    def handshake(self, method: str, headers: Mapping[str, str], body: bytes, url: str) -> Acknowledgement | None:
        """The answer to a vendor that asks who we are before it sends events; None for every other request."""
        return None

    def sample(self, url: str) -> SampleRequest:
        """A webhook as the vendor would send it to `url`, without any event."""
        raise ConfigError(f"{self.system} sends no webhooks that this connector reads", field="webhooks")

    def subscriber(self) -> Subscriber:
        """What manages this account's webhooks; ConfigError `unavailable` with the reason where there is no API."""
        raise ConfigError(
            f"unavailable: {self.system} has no API for webhooks that this connector knows", field="webhooks"
        )


@runtime_checkable
class BulkTarget(Protocol):
    """A target that takes a whole part of a plan in one transaction (databases)."""

    def write_bulk(self, stream: str, op: str, rows: pa.Table, delivery: str) -> pa.Table:
        """Writes `rows` and the marker `delivery` in one transaction of the target.

        `rows` holds `_key` (source key), `_target_id` (null for creates) and the target fields to set.
        Returns `_key`, `_target_id`, `_status` (model.Status), `_field`, `_reason` for every row.
        A delivery already marked writes nothing and returns the same ids. A row the target refuses
        comes back FAILED with its reason while the others are committed. Raises UnknownOutcome when
        the commit's answer was lost.
        """

    def delivered(self, stream: str, delivery: str) -> bool:
        """Whether that marker is in the target."""


@runtime_checkable
class ConditionalTarget(BulkTarget, Protocol):
    """A bulk target that can update records on the condition that they are what they were (databases)."""

    def updates_unmoved(self, stream: str) -> bool:
        """Whether it can do so with these records."""

    def update_unmoved(self, stream: str, rows: pa.Table, was: pa.Table, delivery: str) -> pa.Table:
        """As `write_bulk` of an update, but of records which still hold the values that `was` says, row by row.

        A record with another value, or that is gone, is left alone and comes back REFUSED. Where this target cannot
        tell whether two spellings are the same value, they are not.
        """


@runtime_checkable
class TellsEmpty(Protocol):
    """A target that can say at once that an object holds nothing, so that nothing need be looked up in it."""

    def is_empty(self, stream: str) -> bool:
        """Whether there is no record at all."""


@runtime_checkable
class ChecksCreates(Protocol):
    """A target that can say beforehand that new records of some fields could not be created."""

    def refuse_creates(self, stream: str, given: Sequence[str]) -> None:
        """Raises ConfigError with what is missing when only these fields are given."""


@runtime_checkable
class TellsMerges(Protocol):
    """A system in which people merge records: one id survives, the others are gone without being deleted."""

    def merged(self, stream: str, ids: Sequence[str]) -> Mapping[str, str]:
        """Of these ids those that were merged away: the id of the record that survives each."""
