"""What the connectors of one account share: tokens, a call budget, traffic counters. Knows no Dagster."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token and what renews it. Secrets never appear in `repr`."""

    access: str
    refresh: str | None = None
    expires_at: dt.datetime | None = None
    extra: Mapping[str, str] | None = None  # e.g. Salesforce's instance_url

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at!r})"


class TokenStore(Protocol):
    """Tokens of one connection, kept where every process of the installation sees them."""

    def load(self) -> Token | None:
        """The stored token, or None."""

    def refresh(self, stale: Token | None, renew: Any) -> Token:
        """A token newer than `stale`: another process's if it was faster, else `renew(current)`'s.

        Only one caller at a time renews (single flight across processes), and the new token is
        durable before it is returned.
        """


class Quota(Protocol):
    """The call budget of one account, shared by all processes."""

    def acquire(self, bucket: str, cost: float = 1.0) -> float:
        """Waits until `cost` calls may be made from `bucket`; returns the seconds waited."""

    def learn(self, bucket: str, *, limit: float | None, per_seconds: float | None, remaining: float | None) -> None:
        """Takes over what the vendor's answer said about its limit."""

    def penalize(self, bucket: str, seconds: float) -> None:
        """The vendor said wait: nobody of this installation calls for that long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What `connect(name)` gives a connector: its name and the installation's shared state.

    `attempts`: how often a call that may be repeated is made at most (None: as the connector thinks right).
    `installation`: what no other installation is called, for names of things we leave in the account.
    """

    name: str
    tokens: TokenStore
    quota: Quota
    attempts: int | None = None
    installation: str = ""


@dataclass(slots=True)
class Traffic:
    """What a connector's calls cost so far, for the report."""

    api_calls: int = 0
    bytes_sent: int = 0
    seconds_waiting_for_quota: float = 0.0
