"""What webhooks are about: changes, the notices made of them, requests that carried them; and how a vendor notifies."""

from __future__ import annotations

import abc
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sync_platform.sandbox.http_post import Answer
from sync_platform.sandbox.request_log import iso

if TYPE_CHECKING:
    from sync_platform.sandbox.kit_webhooks import Webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One stored change of one record. `values`: the fields that differ, None where cleared."""

    stream: str
    id: str
    op: str  # create | update | delete | restore | erase | merge
    at: int  # ms of the sandbox clock
    by_hand: bool  # by a person in the vendor's pages; else by an app
    values: Mapping[str, Any] = field(default_factory=dict)
    merged: tuple[str, ...] = ()  # ids merged into `primary`; the outcome is `id`
    primary: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How badly the deliveries of a webhook go."""

    duplicate_rate: float = 0.0
    reorder: bool = False
    drop_rate: float = 0.0
    delay_ms: int = 0


class Notice:
    """One notification. `lane`: only notices of one lane share a request."""

    __slots__ = ("again", "attempt", "content", "id", "lane", "made_at")

    def __init__(self, id: int | str, content: Any, *, made_at: int, lane: str = "") -> None:
        self.id = id
        self.content = content
        self.lane = lane
        self.made_at = made_at
        self.attempt = 0
        self.again = False  # a copy goes out once this one is acknowledged

    def copy(self) -> Notice:
        """The same notification once more."""
        content = dict(self.content) if isinstance(self.content, dict) else self.content
        return Notice(self.id, content, made_at=self.made_at, lane=self.lane)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """How requests to a webhook go out."""

    batch: int
    concurrent: int
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request to a webhook and how it ended. `status` None: no answer."""

    seq: int
    system: str
    target_url: str
    sent_at: int
    notices: tuple[tuple[int | str, int], ...]  # (id, attempt)
    status: int | None
    acknowledged: bool
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """The delivery as `GET deliveries` shows it."""
        return {
            "seq": self.seq, "system": self.system, "target_url": self.target_url, "time": iso(self.sent_at),
            "notifications": [{"id": id, "attempt": attempt} for id, attempt in self.notices],
            "status": self.status, "acknowledged": self.acknowledged, "error": self.error,
        }  # fmt: skip


@dataclass(slots=True)
class Counts:
    """Notifications of one webhook; `requests` and `refused` count requests."""

    made: int = 0
    sent: int = 0  # put on the wire, repeats included
    acknowledged: int = 0
    failed: int = 0  # given up
    dropped: int = 0  # by drop_rate: lost at the vendor
    duplicated: int = 0
    requests: int = 0
    refused: int = 0


class Dialect(abc.ABC):
    """How a vendor notifies."""

    def restart(self) -> None:  # noqa: B027  (most have nothing to forget)
        """Randomness back to the start."""

    @abc.abstractmethod
    def select(self, wanted: Mapping[str, Any]) -> Any:
        """The selection that the further keys of `POST webhooks` ask for. Raises SandboxError for what is unknown."""

    @abc.abstractmethod
    def shown(self, webhook: Webhook) -> dict[str, Any]:
        """The selection as `GET webhooks` shows it."""

    @abc.abstractmethod
    def secret(self) -> str:
        """The secret of a webhook that was set up without one."""

    @abc.abstractmethod
    def notices(self, webhook: Webhook, change: Change) -> list[Notice]:
        """What a webhook is told of a change."""

    @abc.abstractmethod
    def flow(self, webhook: Webhook) -> Flow:
        """Batch size, concurrency and patience."""

    @abc.abstractmethod
    def request(self, webhook: Webhook, notices: Sequence[Notice]) -> tuple[dict[str, str], bytes]:
        """Headers and body of a request, as of now."""

    @abc.abstractmethod
    def accepted(self, answer: Answer) -> bool:
        """Whether an answer acknowledges the request."""

    @abc.abstractmethod
    def retry_at(self, notice: Notice, now: int, chance: random.Random) -> int | None:
        """When a notice that failed goes out again (ms); None: never."""
