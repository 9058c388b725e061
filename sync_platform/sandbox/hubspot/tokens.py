"""Who may call: private-app tokens and OAuth tokens.

https://developers.hubspot.com/docs/api-reference/latest/authentication/oauth-quickstart and
https://developers.hubspot.com/docs/apps/legacy-apps/private-apps/overview. Times in milliseconds of the sandbox clock.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from sync_platform.sandbox.hubspot.objects import KINDS
from sync_platform.sandbox.hubspot.refusals import RefusedError, missing_scopes
from sync_platform.sandbox.kit import iso

APP_ID: Final = 1_600_042
USER_ID: Final = 700_001
CLIENT_ID: Final = "7e1f0d52-0000-4000-8000-5a4db0c0ffee"
CLIENT_SECRET: Final = "b0a7c0de-0000-4000-8000-5a4db0c0ffee"
#: The API key of the developer account that owns the app.
DEVELOPER_KEY: Final = "5a4db0c0-ffee-4000-8000-0000000000de"
PRIVATE_TOKEN: Final = "pat-na1-5a4db0c0-ffee-4000-8000-000000000001"
#: A private app that may read contacts and nothing else.
LIMITED_TOKEN: Final = "pat-na1-5a4db0c0-ffee-4000-8000-000000000002"
REFRESH_TOKEN: Final = "na1-5a4db0c0-ffee-4000-8000-00000000000a"
CODE: Final = "na1-c0de-0000-4000-8000-000000000001"
#: First characters of the access tokens given out here.
ACCESS_PREFIX: Final = "CKsandbox"
ALL_SCOPES: Final = frozenset(
    {"oauth"}
    | {kind.read_scope for kind in KINDS.values()}
    | {kind.write_scope for kind in KINDS.values()}
    | {f"crm.schemas.{name}.{verb}" for name in ("contacts", "companies", "deals") for verb in ("read", "write")}
)
LIMITED_SCOPES: Final = frozenset({"crm.objects.contacts.read"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token. `expires_at` None: a private app's, which does not expire."""

    text: str
    scopes: frozenset[str]
    expires_at: int | None = None

    @property
    def private(self) -> bool:
        """Whether a private app holds it (other limits apply)."""
        return self.expires_at is None

    def require(self, *scopes: str) -> None:
        """Raises RefusedError (403) unless the token has one of the scopes."""
        if self.scopes.isdisjoint(scopes):
            raise missing_scopes(scopes)


class Tokens:
    """Every token in force."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.reset()

    def reset(self) -> None:
        """Back to the tokens of `env`."""
        private = Token(text=PRIVATE_TOKEN, scopes=ALL_SCOPES)
        limited = Token(text=LIMITED_TOKEN, scopes=LIMITED_SCOPES)
        self.access: dict[str, Token] = {PRIVATE_TOKEN: private, LIMITED_TOKEN: limited}
        self.refresh: dict[str, frozenset[str]] = {REFRESH_TOKEN: ALL_SCOPES}
        self.codes: dict[str, frozenset[str]] = {CODE: ALL_SCOPES}

    def text(self, prefix: str, length: int) -> str:
        """A new random token; access tokens are long, as the vendor's are (300 characters and more)."""
        return prefix + "".join(
            self._rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", k=length)
        )

    def grant(self, scopes: frozenset[str], now: int, seconds: int) -> Token:
        """A new access token."""
        token = Token(text=self.text(ACCESS_PREFIX, 300), scopes=scopes, expires_at=now + seconds * 1000)
        self.access[token.text] = token
        return token

    def expire(self, now: int) -> None:
        """Ends every OAuth access token. Private-app tokens have no end, so nothing ends them."""
        for text, token in self.access.items():
            if token.expires_at is not None:
                self.access[text] = replace(token, expires_at=min(token.expires_at, now))

    def check(self, bearer: str | None, now: int) -> Token:
        """The token of a request. Raises RefusedError (401)."""
        token = None if bearer is None else self.access.get(bearer)
        if token is None:
            raise RefusedError(
                401,
                "Authentication credentials not found. This API supports OAuth 2.0 authentication.",
                category="INVALID_AUTHENTICATION",
                violation=False,
            )
        if token.expires_at is not None and token.expires_at <= now:
            seconds = (now - token.expires_at) // 1000
            raise RefusedError(
                401,
                f"The OAuth token used to make this call expired {seconds} second(s) ago.",
                category="EXPIRED_AUTHENTICATION",
                context={"expire time": [iso(token.expires_at)]},
                violation=False,
            )
        return token
