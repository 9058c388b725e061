"""What authorises a call, as `http.Http` asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sync_platform.connectors.shared import Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What authorises one call: headers, and the address the token belongs to when the vendor names one."""

    headers: Mapping[str, str]
    base_url: str | None = None
    token: Token | None = None

    def __repr__(self) -> str:
        return f"Credential(base_url={self.base_url!r})"


class Auth(Protocol):
    """Where `Http` gets its credentials (`StaticToken` here, `oauth.OAuth`)."""

    def current(self) -> Credential:
        """The credential for the next call, renewed when it is about to expire."""

    def renew(self, refused: Credential) -> Credential | None:
        """A credential newer than the one a 401 refused; None when there is nothing to renew."""

    def secrets(self) -> Iterable[str]:
        """Values that must never appear in a message."""


class StaticToken:
    """An `Auth` that always sends one header, such as a private-app token. It cannot be renewed."""

    def __init__(self, token: str, *, header: str = "Authorization", scheme: str = "Bearer") -> None:
        self._token = token
        self._credential = Credential(headers={header: f"{scheme} {token}".strip()})

    def __repr__(self) -> str:
        return "StaticToken(***)"

    def current(self) -> Credential:
        """The one credential."""
        return self._credential

    def renew(self, refused: Credential) -> Credential | None:
        """None: a person renews it."""
        return None

    def secrets(self) -> Iterable[str]:
        """The token."""
        return (self._token,)
