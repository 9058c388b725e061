"""OAuth: the authorisation redirect, tokens and what they are good for; and the account's details.

https://developers.hubspot.com/docs/api-reference/latest/authentication/oauth-quickstart. A refresh answers with the
same refresh token unless the habit `refresh_token_rotates` is on.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from sync_platform.sandbox.hubspot.exchange import Answer
from sync_platform.sandbox.hubspot.refusals import PORTAL_ID, RefusedError, bad_request, not_built
from sync_platform.sandbox.hubspot.tokens import (
    ALL_SCOPES,
    APP_ID,
    CLIENT_ID,
    CLIENT_SECRET,
    USER_ID,
    Token,
    Tokens,
)
from sync_platform.sandbox.kit import Call, Simulator

#: version of the token path -> the grants its schema lists
GRANTS: Final = {
    "v1": ("authorization_code", "refresh_token"),
    "v3": ("authorization_code", "refresh_token", "client_credentials"),
    "2026-03": ("authorization_code", "refresh_token", "client_credentials"),
    "2026-09": ("authorization_code", "refresh_token"),
}


def refused(status: str, message: str, error: str) -> RefusedError:
    """The token endpoint's error: the usual body and OAuth's own keys."""
    extra = {"error": error, "error_description": message}
    return RefusedError(400, message, category=None, extra={"status": status, **extra}, violation=False)


def token(call: Call, version: str, tokens: Tokens, simulator: Simulator) -> Answer:
    """POST /oauth/{version}/token."""
    if not call.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise RefusedError(415, "Send application/x-www-form-urlencoded", category=None)
    form = call.form()
    grant = form.get("grant_type", "")
    if grant not in GRANTS[version]:
        raise refused("BAD_GRANT_TYPE", f"grant_type {grant or '(none)'} is not supported", "unsupported_grant_type")
    if form.get("client_id") != CLIENT_ID:
        raise refused("BAD_CLIENT_ID", "missing or unknown client id", "invalid_client")
    if form.get("client_secret") != CLIENT_SECRET:
        raise refused("BAD_CLIENT_SECRET", "missing or invalid client secret", "invalid_client")
    refresh: str | None
    if grant == "authorization_code":
        if not form.get("redirect_uri"):
            raise refused("BAD_REDIRECT_URI", "missing or unknown redirect URI", "invalid_request")
        scopes = tokens.codes.pop(form.get("code", ""), None)
        if scopes is None:
            raise refused("BAD_AUTH_CODE", "missing or unknown auth code", "invalid_grant")
        refresh = tokens.text("na1-", 36)
        tokens.refresh[refresh] = scopes
    elif grant == "refresh_token":
        refresh = form.get("refresh_token", "")
        scopes = tokens.refresh.get(refresh)
        if scopes is None:
            raise refused("BAD_REFRESH_TOKEN", "missing or invalid refresh token", "invalid_grant")
        if simulator.on("refresh_token_rotates"):
            del tokens.refresh[refresh]
            refresh = tokens.text("na1-", 36)
            tokens.refresh[refresh] = scopes
    else:
        refresh, scopes = None, frozenset(form["scope"].split()) & ALL_SCOPES if form.get("scope") else ALL_SCOPES
    life = int(simulator.value("token_life")) if simulator.on("token_life") else 10**9
    granted = tokens.grant(scopes, simulator.world.now_ms(), life)
    content: dict[str, Any] = {"access_token": granted.text, "expires_in": life, "token_type": "bearer"}
    if refresh is not None:
        content["refresh_token"] = refresh
    if version != "v1":
        content |= {"hub_id": PORTAL_ID, "scopes": sorted(scopes), "token_use": "access_token"}
    return Answer(content=content)


def about(call: Call, parts: tuple[str, ...], tokens: Tokens, now: int) -> Answer:
    """GET /oauth/v1/access-tokens/{token}, GET and DELETE /oauth/v1/refresh-tokens/{token}."""
    about_us: dict[str, Any] = {"hub_id": PORTAL_ID, "user_id": USER_ID, "user": "admin@sandbox.example.com"}
    about_us |= {"hub_domain": "sandbox.example.com", "app_id": APP_ID}
    match call.method, parts:
        case "GET", ("access-tokens", text):
            found: Token | None = tokens.access.get(text)
            if found is None or found.expires_at is None or found.expires_at <= now:
                raise RefusedError(
                    404, "access token not found or expired", category="OBJECT_NOT_FOUND", violation=False
                )
            left = (found.expires_at - now) // 1000
            return Answer(
                content={
                    **about_us,
                    "token": text,
                    "scopes": sorted(found.scopes),
                    "expires_in": left,
                    "token_type": "access",
                }
            )
        case "GET", ("refresh-tokens", text):
            scopes = tokens.refresh.get(text)
            if scopes is None:
                raise RefusedError(404, "refresh token not found", category="OBJECT_NOT_FOUND", violation=False)
            content = {
                **about_us,
                "token": text,
                "scopes": sorted(scopes),
                "client_id": CLIENT_ID,
                "token_type": "refresh",
            }
            return Answer(content=content)
        case "DELETE", ("refresh-tokens", text):
            tokens.refresh.pop(text, None)
            return Answer(content=None, status=204)
    raise not_built(f"{call.method} {call.path}")


def authorize(call: Call, tokens: Tokens) -> Response:
    """GET /oauth/authorize: the person agrees at once; the redirect carries a code that works once."""
    query = call.query
    if query.get("client_id") != CLIENT_ID or not query.get("redirect_uri"):
        raise bad_request("authorize needs client_id and redirect_uri", violation=False)
    scopes = frozenset(query.get("scope", "").split())
    if not scopes or not scopes <= ALL_SCOPES:
        raise bad_request(
            f"unknown scopes: {', '.join(sorted(scopes - ALL_SCOPES)) or '(none given)'}", violation=False
        )
    code = tokens.text("na1-", 36)
    tokens.codes[code] = scopes
    back = {"code": code, **({"state": query["state"]} if "state" in query else {})}
    return RedirectResponse(f"{query['redirect_uri']}?{urlencode(back)}", 302)


def account() -> Answer:
    """GET /account-info/{version}/details."""
    return Answer(
        content={
            "portalId": PORTAL_ID,
            "accountType": "STANDARD",
            "timeZone": "UTC",
            "companyCurrency": "USD",
            "additionalCurrencies": [],
            "utcOffset": "+00:00",
            "utcOffsetMilliseconds": 0,
            "uiDomain": "app.hubspot.com",
            "dataHostingLocation": "na1",
        }
    )
