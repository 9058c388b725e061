"""Tokens: obtained, kept, renewed once, and never shown."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey
from local_server import Asked, Clock, LocalServer, Reply, serving

from sync_platform.connectors.http import Http
from sync_platform.connectors.oauth import (
    ClientCredentials,
    Grant,
    JwtBearer,
    MemoryTokens,
    OAuth,
    RefreshToken,
    token_fault,
)
from sync_platform.connectors.shared import Token
from sync_platform.errors import AuthError, ConfigError, ContractError, TransientError

APP = ClientCredentials(client_id="app", client_secret="app-secret-1")


class TokenDesk:
    """A token endpoint that rotates refresh tokens, and an API that takes only the newest access token."""

    def __init__(self, *, rotate: bool = True, expires_in: int | None = None) -> None:
        self.rotate, self.expires_in = rotate, expires_in
        self.issued = 0
        self.refresh = "refresh-0"
        self.lock = threading.Lock()

    def __call__(self, asked: Asked) -> Reply:
        if asked.path != "/token":
            fine = asked.headers.get("Authorization") == f"Bearer access-{self.issued}" and self.issued
            return Reply(data={"ok": True}) if fine else Reply(status=401, data={"error": "expired"})
        with self.lock:
            form = asked.form
            if form["grant_type"] == "refresh_token" and form["refresh_token"] != self.refresh:
                return Reply(status=400, data={"error": "invalid_grant", "error_description": form["refresh_token"]})
            if form.get("client_secret") == "wrong-secret":
                return Reply(status=401, data={"error": "invalid_client", "error_description": "wrong-secret"})
            self.issued += 1
            answer: dict[str, Any] = {"access_token": f"access-{self.issued}", "token_type": "Bearer"}
            if form["grant_type"] == "refresh_token" and self.rotate:
                self.refresh = answer["refresh_token"] = f"refresh-{self.issued}"
            if self.expires_in:
                answer["expires_in"] = self.expires_in
            return Reply(data=answer)


def account(server: LocalServer, grant: Grant, store: MemoryTokens, clock: Clock | None = None) -> tuple[Http, OAuth]:
    clock = clock or Clock()
    options: Mapping[str, Any] = {"system": "acme", "clock": clock, "sleep": clock.sleep}
    auth = OAuth(Http(server.url, faults=token_fault, **options), "/token", grant=grant, store=store, clock=clock)
    return Http(server.url, auth=auth, **options), auth


def test_client_credentials_buy_a_token_once_for_many_calls() -> None:
    with serving(TokenDesk()) as server:
        http, _ = account(server, APP, MemoryTokens())
        for _ in range(3):
            http.get("/things")
        assert len(server.of("POST", "/token")) == 1
        assert server.asked[0].form["client_secret"] == "app-secret-1"


def test_a_token_is_renewed_before_it_expires() -> None:
    clock = Clock()
    with serving(TokenDesk(expires_in=1800)) as server:
        http, _ = account(server, APP, MemoryTokens(), clock)
        http.get("/things")
        clock.now += 1700
        http.get("/things")
        assert len(server.of("POST", "/token")) == 1
        clock.now += 50
        http.get("/things")
        assert len(server.of("POST", "/token")) == 2
        assert all(one.headers["Authorization"] for one in server.of("GET"))


def test_a_token_refused_in_mid_work_is_renewed_once_and_the_call_repeated_once() -> None:
    store = MemoryTokens(Token(access="stale", refresh="refresh-0"))
    with serving(TokenDesk()) as server:
        http, _ = account(server, RefreshToken(client_id="app", client_secret="s", refresh_token="refresh-0"), store)
        assert http.post("/things", json={}, write=True).data == {"ok": True}
        assert [one.path for one in server.asked] == ["/things", "/token", "/things"]


def test_a_rotated_refresh_token_is_stored_before_its_access_token_is_used() -> None:
    order: list[str] = []

    class Watching(MemoryTokens):
        def refresh(self, stale: Token | None, renew: Any) -> Token:
            fresh = super().refresh(stale, renew)
            order.append(f"stored {fresh.refresh}")
            return fresh

    desk = TokenDesk()

    def script(asked: Asked) -> Reply:
        if asked.path != "/token":
            order.append("used")
        return desk(asked)

    store = Watching()
    with serving(script) as server:
        grant = RefreshToken(client_id="app", client_secret="s", refresh_token="refresh-0")
        http, _ = account(server, grant, store)
        http.get("/things")
        desk.issued += 1  # the API forgets the token
        desk.refresh = "someone else's"
        with pytest.raises(AuthError):
            http.get("/things")
    assert order[:2] == ["stored refresh-1", "used"]


def test_the_rotated_token_is_what_the_next_refresh_sends() -> None:
    store = MemoryTokens()
    desk = TokenDesk()
    with serving(desk) as server:
        grant = RefreshToken(client_id="app", client_secret="s", refresh_token="refresh-0")
        http, _ = account(server, grant, store)
        http.get("/things")
        store_token = store.load()
        assert store_token is not None
        store.refresh(store_token, lambda current: Token(access="stale", refresh=current.refresh))
        again, _ = account(server, grant, store)
        again.get("/things")
        assert [one.form["refresh_token"] for one in server.of("POST")] == ["refresh-0", "refresh-1"]


def test_a_newly_configured_refresh_token_is_tried_when_the_stored_one_is_refused() -> None:
    store = MemoryTokens(Token(access="stale", refresh="revoked"))
    with serving(TokenDesk()) as server:
        grant = RefreshToken(client_id="app", client_secret="s", refresh_token="refresh-0")
        http, _ = account(server, grant, store)
        assert http.get("/things").data == {"ok": True}


def test_a_system_that_does_not_rotate_keeps_its_refresh_token() -> None:
    store = MemoryTokens()
    with serving(TokenDesk(rotate=False)) as server:
        grant = RefreshToken(client_id="app", client_secret="s", refresh_token="refresh-0")
        http, _ = account(server, grant, store)
        http.get("/things")
    token = store.load()
    assert token is not None
    assert token.refresh == "refresh-0"


def test_many_threads_with_a_stale_token_renew_it_once() -> None:
    store = MemoryTokens(Token(access="stale", refresh="refresh-0"))
    gate = threading.Barrier(8)
    desk, failed = TokenDesk(), []

    def script(asked: Asked) -> Reply:
        if asked.headers.get("Authorization") == "Bearer stale":
            gate.wait(timeout=10)  # everyone is refused before anyone renews
        return desk(asked)

    with serving(script) as server:
        grant = RefreshToken(client_id="app", client_secret="s", refresh_token="refresh-0")

        def work() -> None:
            http, _ = account(server, grant, store)
            if http.get("/things").data != {"ok": True}:
                failed.append(1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(server.of("POST", "/token")) == 1


@pytest.mark.parametrize(
    ("grant", "field", "mend"),
    [
        (ClientCredentials(client_id="app", client_secret="wrong-secret"), "client_secret", "check client_id"),
        (RefreshToken(client_id="app", client_secret="s", refresh_token="bad-refresh"), "refresh_token", "authorise"),
    ],
    ids=["invalid_client", "invalid_grant"],
)
def test_refused_credentials_are_an_auth_error_with_a_mend_and_without_the_secret(
    grant: Grant, field: str, mend: str
) -> None:
    with serving(TokenDesk()) as server:
        http, auth = account(server, grant, MemoryTokens())
        with pytest.raises(AuthError) as caught:
            http.get("/things")
        assert server.of("GET") == []
    assert caught.value.field == field
    assert mend in str(caught.value.mend)
    shown = f"{caught.value}{caught.value!r}{grant!r}{auth!r}"
    assert "wrong-secret" not in shown
    assert "bad-refresh" not in shown


def test_without_any_refresh_token_nothing_is_asked() -> None:
    with serving(TokenDesk()) as server:
        http, _ = account(server, RefreshToken(client_id="a", client_secret="s", refresh_token=None), MemoryTokens())
        with pytest.raises(AuthError, match="no refresh token"):
            http.get("/things")
        assert server.asked == []


def test_a_token_desk_that_is_down_is_transient() -> None:
    with serving([Reply(status=503)]) as server:
        http, _ = account(server, APP, MemoryTokens())
        with pytest.raises(TransientError):
            http.get("/things")


@pytest.mark.parametrize(
    ("reply", "error"),
    [(Reply(data={"token": "?"}), ContractError), (Reply(status=404, data={}), ConfigError)],
    ids=["no-access-token", "not-there"],
)
def test_an_odd_token_answer_is_not_used(reply: Reply, error: type[Exception]) -> None:
    with serving([reply]) as server:
        http, _ = account(server, APP, MemoryTokens())
        with pytest.raises(error):
            http.get("/things")


def test_a_jwt_bearer_assertion_is_signed_for_the_audience() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    grant = JwtBearer(client_id="app", key=pem, subject="user@example.com", audience="https://login.example.com")
    with serving(TokenDesk()) as server:
        http, _ = account(server, grant, MemoryTokens())
        http.get("/things")
        assertion = server.of("POST")[0].form["assertion"]
    claims = jwt.decode(assertion, RSAKey.import_key(pem)).claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("app", "user@example.com", "https://login.example.com")
    assert claims["exp"] - claims["iat"] == 180
    assert "PRIVATE" not in repr(grant)


def test_tokens_do_not_show_their_secrets() -> None:
    token = Token(access="top-secret", refresh="more-secret", expires_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    assert "secret" not in repr(token) + repr(MemoryTokens(token))
