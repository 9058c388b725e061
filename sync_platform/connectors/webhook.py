"""What a connector says about its vendor's webhooks: how they are proved, answered, subscribed to and tested."""

from __future__ import annotations

import enum
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from sync_platform.errors import AuthError


class StaleWebhookError(AuthError):
    """A webhook signed too long ago, or in the future: perhaps somebody sends it a second time."""


class Proof(enum.StrEnum):
    """How a webhook of this vendor shows that the vendor sent it."""

    NONE = "none"  # it sends none that we read
    SIGNATURE = "signature"  # a signature over the raw body
    PATH = "path"  # a secret last segment of the address; the content is a hint only


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """The answer that tells the vendor its webhook was taken (or, to a handshake, that we are who it looks for)."""

    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """A genuine webhook without any event in it: it proves an address and changes nothing."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One thing the vendor tells us about: `event` in the vendor's words."""

    id: str
    event: str
    field: str | None = None
    active: bool = True


@runtime_checkable
class Subscriber(Protocol):
    """A vendor whose API manages webhooks."""

    def target(self) -> str | None:
        """The address the vendor calls; None when none is set."""

    def subscriptions(self) -> list[Subscription]:
        """What the vendor tells us about."""

    def subscribe(self, url: str, wanted: Mapping[str, Sequence[str]]) -> list[Subscription]:
        """Sets the address and adds what is missing for these streams and fields; returns what was added."""

    def unsubscribe(self, ids: Sequence[str]) -> None:
        """Ends these subscriptions."""


def proved(given: bytes, known: Sequence[bytes]) -> bool:
    """Whether `given` is one of `known`. Takes as long whichever it is, and however much of it fits."""
    fits = [hmac.compare_digest(given, each) for each in known]
    return True in fits
