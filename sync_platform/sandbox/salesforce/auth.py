"""OAuth 2.0 as `/services/oauth2` gives it (Help, "OAuth Authorization Flows")."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import orjson
from starlette.responses import RedirectResponse, Response

from sync_platform.sandbox.kit import Call, JSONResponse
from sync_platform.sandbox.salesforce.refusals import invalid_session

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

CLIENT_ID: Final = "3MVG9sandboxConsumerKey.ForLocalUseOnly"
CLIENT_SECRET: Final = "sandbox-consumer-secret-for-local-use-only"
REFRESH_TOKEN: Final = "5Aep861.sandboxRefreshToken.ForLocalUseOnly"
ORG_ID: Final = "00DSB0000000001MAA"
USERNAME: Final = "integration@sandbox.example.com"
_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class OAuthError(Exception):
    """A refused token request: 400 with {"error", "error_description"}."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.body = {"error": error, "error_description": description}


class Sessions:
    """Access tokens, refresh tokens and authorization codes of the organization."""

    def __init__(self, org: SalesforceSimulator) -> None:
        self._org = org
        self._access: dict[str, int] = {}  # token -> last use, ms
        self._refresh: set[str] = {REFRESH_TOKEN}
        self._codes: dict[str, tuple[str, str | None]] = {}  # code -> (redirect_uri, PKCE challenge)

    def clear(self) -> None:
        """Back to the start: no sessions, the documented refresh token."""
        self._access.clear()
        self._codes.clear()
        self._refresh = {REFRESH_TOKEN}

    def expire(self) -> None:
        """Ends every session; refresh tokens stay."""
        self._access.clear()

    def check(self, call: Call) -> None:
        """Raises INVALID_SESSION_ID unless the request carries a live session; using one prolongs it."""
        self.check_token(call.bearer)

    def check_token(self, token: str | None) -> None:
        """The same for a session named elsewhere than in the headers."""
        now = self._org.world.now_ms()
        last = self._access.get(token) if token else None
        if token is None or last is None:
            raise invalid_session()
        if self._org.on("token_life") and now - last >= self._org.value("token_life") * 1000:
            del self._access[token]
            raise invalid_session()
        self._access[token] = now

    def answer(self, call: Call) -> Response:
        """A request below /services/oauth2/."""
        name = call.path.removeprefix("/services/oauth2/").strip("/")
        form = {**call.query, **call.form()} if call.method == "POST" else call.query
        if name == "authorize" and call.method in ("GET", "POST"):
            return self._authorize(form)
        if name == "token" and call.method == "POST":
            try:
                return JSONResponse(self._token(call, form), headers={"Cache-Control": "no-cache, no-store"})
            except OAuthError as error:
                return JSONResponse(error.body, 400)
        if name == "revoke":
            token = form.get("token", "")
            known = token in self._access or token in self._refresh
            self._access.pop(token, None)
            self._refresh.discard(token)
            body = {"error": "unsupported_token_type", "error_description": "this token type is not supported"}
            return Response(status_code=200) if known else JSONResponse(body, 400)
        if name == "userinfo":
            self.check(call)
            return JSONResponse(self.identity(call))
        if name == "introspect" and call.method == "POST":
            live = form.get("token") in self._access
            return JSONResponse({"active": live, **({"client_id": CLIENT_ID, "username": USERNAME} if live else {})})
        return self._org.unbuilt(call)

    def identity(self, call: Call) -> dict[str, Any]:
        """Who the token belongs to."""
        user = self._org.user_id
        return {
            "sub": f"{call.root}/id/{ORG_ID}/{user}", "user_id": user, "organization_id": ORG_ID,
            "preferred_username": USERNAME, "nickname": "integration", "name": "Integration User",
            "email": USERNAME, "email_verified": True, "zoneinfo": self._org.value("user_time_zone"),
            "active": True, "user_type": "STANDARD", "language": "en_US", "locale": "en_US", "utcOffset": -28800000,
            "urls": {"rest": f"{call.root}/services/data/v{{version}}/", "sobjects":
                     f"{call.root}/services/data/v{{version}}/sobjects/"},
        }  # fmt: skip

    # ---- flows

    def _authorize(self, form: dict[str, str]) -> Response:
        """The person's consent is taken as given: straight back with a code."""
        redirect = form.get("redirect_uri", "")
        if form.get("client_id") != CLIENT_ID or form.get("response_type") != "code" or not redirect:
            body = {"error": "invalid_client_id", "error_description": "client identifier invalid"}
            return JSONResponse(body, 400)
        code = "aPrx" + self._random(32)
        self._codes[code] = (redirect, form.get("code_challenge"))
        answer = {"code": code, **({"state": form["state"]} if "state" in form else {})}
        return RedirectResponse(f"{redirect}{'&' if '?' in redirect else '?'}{urlencode(answer)}", 302)

    def _token(self, call: Call, form: dict[str, str]) -> dict[str, Any]:
        grant = form.get("grant_type", "")
        if grant == _JWT_BEARER:
            self._check_assertion(form.get("assertion", ""))
            return self._issue(call, None)
        self._check_client(call, form, secret_needed=grant == "client_credentials")
        if grant == "client_credentials":
            return self._issue(call, None)
        if grant == "refresh_token":
            token = form.get("refresh_token", "")
            if token not in self._refresh:
                raise OAuthError("invalid_grant", "expired access/refresh token")
            if not self._org.on("refresh_rotation"):
                return self._issue(call, None)
            self._refresh.discard(token)
            return self._issue(call, self._new_refresh())
        if grant == "authorization_code":
            self._take_code(form)
            return self._issue(call, self._new_refresh())
        if grant == "password":
            raise OAuthError("unsupported_grant_type", "the username-password flow is blocked for this organization")
        raise OAuthError("unsupported_grant_type", "grant type not supported")

    def _check_client(self, call: Call, form: dict[str, str], *, secret_needed: bool) -> None:
        client, secret = form.get("client_id"), form.get("client_secret")
        scheme, _, encoded = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                client, _, secret = base64.b64decode(encoded).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise OAuthError("invalid_client", "invalid client credentials") from None
        if client != CLIENT_ID:
            raise OAuthError("invalid_client_id", "client identifier invalid")
        if secret is None and not secret_needed and form.get("code_verifier"):
            return
        if not hmac.compare_digest(secret or "", CLIENT_SECRET):
            raise OAuthError("invalid_client", "invalid client credentials")

    def _take_code(self, form: dict[str, str]) -> None:
        redirect, challenge = self._codes.pop(form.get("code", ""), ("", None))
        if not redirect:
            raise OAuthError("invalid_grant", "expired authorization code")
        if redirect != form.get("redirect_uri"):
            raise OAuthError("redirect_uri_mismatch", "redirect_uri must match configuration")
        if challenge is not None:
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != challenge:
                raise OAuthError("invalid_grant", "invalid code verifier")

    def _check_assertion(self, assertion: str) -> None:
        """The shape and the claims; the signature cannot be checked without the app's certificate."""
        try:
            head, claims = (orjson.loads(_unpad(part)) for part in assertion.split(".")[:2])
            issuer, audience, expires = claims["iss"], claims["aud"], float(claims["exp"])
            subject, algorithm, parts = claims["sub"], head["alg"], assertion.count(".")
        except (ValueError, KeyError, TypeError, binascii.Error):
            raise OAuthError("invalid_grant", "invalid assertion") from None
        now = self._org.world.now_ms() / 1000
        if algorithm != "RS256" or parts != 2 or not audience or not subject:
            raise OAuthError("invalid_grant", "invalid assertion")
        if issuer != CLIENT_ID:
            raise OAuthError("invalid_client_id", "client identifier invalid")
        if not now < expires <= now + 600:
            raise OAuthError("invalid_grant", "expired authorization code")

    def _issue(self, call: Call, refresh: str | None) -> dict[str, Any]:
        now = self._org.world.now_ms()
        token = f"{ORG_ID[:15]}!AQ.{self._random(72)}"
        self._access[token] = now
        identity = f"{call.root}/id/{ORG_ID}/{self._org.user_id}"
        signed = hmac.new(CLIENT_SECRET.encode(), f"{identity}{now}".encode(), hashlib.sha256).digest()
        body = {
            "access_token": token,
            "signature": base64.b64encode(signed).decode(),
            "scope": "refresh_token api",
            "instance_url": call.root,
            "id": identity,
            "token_type": "Bearer",
            "issued_at": str(now),
        }
        return body if refresh is None else {**body, "refresh_token": refresh}

    def _new_refresh(self) -> str:
        token = "5Aep861." + self._random(64)
        self._refresh.add(token)
        return token

    @staticmethod
    def _random(length: int) -> str:
        return secrets.token_urlsafe(length)[:length]


def _unpad(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
