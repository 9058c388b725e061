"""OAuth 2 for connectors: get a token, keep it where every process sees it, renew it once.

    auth = OAuth(
        Http(base_url, system="example", faults=token_fault), "/oauth/token",
        grant=RefreshToken(client_id=..., client_secret=..., refresh_token=...),
        store=shared.tokens,
    )
    http = Http(base_url, system="example", auth=auth)

A renewal happens inside `TokenStore.refresh`, one caller at a time; the store keeps the new token,
with a rotated refresh token, before anyone uses it. RFC 6749, RFC 7523; requests are formed by Authlib.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from sync_platform.connectors.credentials import Credential, StaticToken
from sync_platform.connectors.faults import Answer, Fault
from sync_platform.connectors.http import Http
from sync_platform.connectors.shared import Token, TokenStore
from sync_platform.errors import AuthError, ConfigError, ContractError, SyncError

__all__ = ["ClientCredentials", "JwtBearer", "MemoryTokens", "OAuth", "RefreshToken", "StaticToken", "token_fault"]

#: A token is renewed this long before it expires.
MARGIN: Final = dt.timedelta(seconds=60)


class Grant(Protocol):
    """What is exchanged for an access token."""

    def forms(self, current: Token | None) -> Iterator[dict[str, str]]:
        """Bodies of token requests, to be tried in order until one is not refused as invalid_grant."""

    def secrets(self) -> Iterable[str]:
        """Values that must never appear in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """The app speaks for itself: its id and secret are all it takes."""

    client_id: str
    client_secret: str = field(repr=False)
    scope: str | None = None

    def forms(self, current: Token | None) -> Iterator[dict[str, str]]:
        """One request."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
        }
        yield {**form, "scope": self.scope} if self.scope else form

    def secrets(self) -> Iterable[str]:
        """The client secret."""
        return (self.client_secret,)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """A person authorised the app once; its refresh token buys access tokens.

    The stored (possibly rotated) refresh token goes first; the configured one follows when the stored
    one was refused, which is what a fresh authorisation by a person looks like.
    """

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str | None = field(repr=False)

    def forms(self, current: Token | None) -> Iterator[dict[str, str]]:
        """One request for each refresh token known."""
        stored = current.refresh if current is not None else None
        for token in dict.fromkeys((stored, self.refresh_token)):
            if token:
                yield {
                    "grant_type": "refresh_token",
                    "client_id": self.client_id,
                    "client_secret": self.client_secret,
                    "refresh_token": token,
                }

    def secrets(self) -> Iterable[str]:
        """The client secret and the configured refresh token."""
        return tuple(value for value in (self.client_secret, self.refresh_token) if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtBearer:
    """A signed statement of the app buys the token (RFC 7523). `key` is a PEM private key."""

    client_id: str
    key: str = field(repr=False)
    subject: str
    audience: str
    algorithm: str = "RS256"
    lifetime: dt.timedelta = dt.timedelta(minutes=3)

    def forms(self, current: Token | None) -> Iterator[dict[str, str]]:
        """One request with a fresh assertion."""
        from authlib.oauth2.rfc7523.assertion import sign_jwt_bearer_assertion
        from joserfc.jwk import import_key

        try:
            key = import_key(self.key, "EC" if self.algorithm.startswith("ES") else "RSA")
        except ValueError:
            raise ConfigError(
                "the private key of the JWT grant cannot be read", field="key", mend="give it as PEM text"
            ) from None
        assertion = sign_jwt_bearer_assertion(
            key=key,
            issuer=self.client_id,
            audience=self.audience,
            subject=self.subject,
            alg=self.algorithm,
            expires_in=int(self.lifetime.total_seconds()),
        )
        text = assertion.decode() if isinstance(assertion, bytes) else str(assertion)
        yield {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": text}

    def secrets(self) -> Iterable[str]:
        """The private key."""
        return (self.key,)


class OAuth:
    """An `Auth` whose token comes from `grant` and is kept in `store`.

    `http` is a client without auth for the token address. `lifetime` is assumed when the answer has no
    `expires_in` (None: until a 401 says otherwise). `base_url` names the entry of the token answer that
    holds the address for data calls (Salesforce: instance_url).
    """

    def __init__(
        self,
        http: Http,
        path: str,
        *,
        grant: Grant,
        store: TokenStore,
        scheme: str = "Bearer",
        margin: dt.timedelta = MARGIN,
        lifetime: dt.timedelta | None = None,
        base_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http, self._path, self._grant, self._store = http, path, grant, store
        self._scheme, self._margin, self._lifetime, self._base_url = scheme, margin, lifetime, base_url
        self._clock = clock
        self._token: Token | None = None

    def __repr__(self) -> str:
        return f"OAuth({type(self._grant).__name__})"

    def current(self) -> Credential:
        """The credential for the next call. Raises AuthError when no token is to be had."""
        token = self._token or self._store.load()
        if token is None or not token.access or self._expiring(token):
            token = self._store.refresh(token, self._renew)
        self._token = token
        return self._credential(token)

    def renew(self, refused: Credential) -> Credential | None:
        """A credential newer than the refused one, from whichever caller renews first."""
        self._token = self._store.refresh(refused.token, self._renew)
        return self._credential(self._token)

    def secrets(self) -> Iterable[str]:
        """The app's secrets and the current token."""
        token = self._token
        held = (token.access, token.refresh) if token is not None else ()
        return (*self._grant.secrets(), *(value for value in held if value))

    def _expiring(self, token: Token) -> bool:
        if token.expires_at is None:
            return False
        return token.expires_at - self._margin <= dt.datetime.fromtimestamp(self._clock(), dt.UTC)

    def _credential(self, token: Token) -> Credential:
        extra = token.extra or {}
        base = extra.get(self._base_url) if self._base_url else None
        return Credential(headers={"Authorization": f"{self._scheme} {token.access}"}, base_url=base, token=token)

    def _renew(self, current: Token | None) -> Token:
        refused: AuthError | None = None
        for form in self._grant.forms(current):
            try:
                answer = self._http.post(self._path, form=form, repeatable=True, bucket="token")
            except SyncError as error:
                _hide(error, form)
                if not isinstance(error, AuthError):
                    raise
                refused = error
            else:
                return self._read(answer.data, current, form)
        if refused is None:
            raise AuthError(
                f"{self._http.system}: there is no refresh token to get an access token with",
                field="refresh_token",
                mend="authorise the app again and set refresh_token",
            )
        raise refused

    def _read(self, data: Any, current: Token | None, form: Mapping[str, str]) -> Token:
        access = data.get("access_token") if isinstance(data, dict) else None
        if not isinstance(access, str) or not access:
            raise ContractError(f"{self._http.system}: the token answer holds no access_token")
        lifetime = data.get("expires_in")
        seconds = float(lifetime) if lifetime is not None else self._lifetime and self._lifetime.total_seconds()
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        extra = {
            name: value
            for name, value in data.items()
            if isinstance(value, str) and name not in ("access_token", "refresh_token", "id_token", "signature")
        }
        address = extra.get(self._base_url) if self._base_url else None
        if address is not None and not _same_safety(address, self._http.base_url):
            raise ContractError(
                f"{self._http.system}: the token answer sends us from https to {urlsplit(address).scheme}",
                mend="check base_url",
            )
        return Token(
            access=access,
            refresh=data.get("refresh_token") or form.get("refresh_token") or (current and current.refresh) or None,
            expires_at=now + dt.timedelta(seconds=seconds) if seconds else None,
            extra=extra,
        )


def _hide(error: SyncError, form: Mapping[str, str]) -> None:
    """Takes what the request carried out of an error's text, should the vendor have echoed it."""
    for name in ("client_secret", "refresh_token", "assertion"):
        if form.get(name):
            error.message = error.message.replace(form[name], "***")
    error.args = (error.message,)


def _same_safety(address: str, login: str) -> bool:
    """Whether a token obtained over https stays on https."""
    return not (login.startswith("https://") and not address.startswith("https://"))


def token_fault(answer: Answer) -> Fault | None:
    """What a refused token request means (RFC 6749 section 5.2); None for what is not in it."""
    data = answer.data if isinstance(answer.data, dict) else {}
    code, said = data.get("error"), str(data.get("error_description") or data.get("message") or "")
    if not isinstance(code, str):
        return None
    mends = {
        "invalid_client": ("client_secret", "check client_id and client_secret"),
        "invalid_client_id": ("client_id", "check client_id"),
        "unauthorized_client": ("client_id", "allow this grant type for the app at the vendor"),
        "invalid_grant": ("refresh_token", "authorise the app again and set the new refresh_token"),
        "invalid_scope": ("scope", "ask only for scopes the app was granted"),
        "unsupported_grant_type": ("client_id", "enable this OAuth flow for the app at the vendor"),
        "inactive_user": ("client_id", "activate the user the app runs as"),
        "inactive_org": ("base_url", "the vendor has locked this account; contact its administrator"),
    }
    if code in mends and answer.status in (400, 401, 403):
        named, mend = mends[code]
        return Fault(error=AuthError, message=f"the token was refused: {code} {said}".strip(), field=named, mend=mend)
    return None


class MemoryTokens:
    """A `TokenStore` of this process: single flight among its threads."""

    def __init__(self, token: Token | None = None) -> None:
        self._token = token
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "MemoryTokens()"

    def load(self) -> Token | None:
        """The stored token, or None."""
        return self._token

    def refresh(self, stale: Token | None, renew: Callable[[Token | None], Token]) -> Token:
        """A token newer than `stale`: another thread's if it was faster, else `renew(current)`'s."""
        with self._lock:
            current = self._token
            if current is not None and (stale is None or current.access != stale.access):
                return current
            fresh = renew(current)
            if fresh.refresh is None and current is not None and current.refresh is not None:
                fresh = replace(fresh, refresh=current.refresh)
            self._token = fresh
            return fresh
