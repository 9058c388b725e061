"""The HTTP client against a real local server that misbehaves as asked."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest
from local_server import Asked, Clock, LocalServer, Reply, Script, serving

from sync_platform.connectors.credentials import Credential, StaticToken
from sync_platform.connectors.http import Http
from sync_platform.connectors.quota import MemoryQuota
from sync_platform.connectors.shared import Token, Traffic
from sync_platform.errors import (
    AuthError,
    ConfigError,
    ContractError,
    RateLimitError,
    SyncError,
    TransientError,
    UnknownOutcome,
)

FINE = Reply(data={"ok": True})
BUSY = Reply(status=503, data={"message": "busy"})


def client(server: LocalServer, clock: Clock | None = None, **options: Any) -> Http:
    clock = clock or Clock()
    return Http(server.url, system="acme", clock=clock, sleep=clock.sleep, jitter=lambda: 0.0, **options)


@pytest.mark.parametrize(
    "first",
    [
        BUSY,
        Reply(status=500),
        Reply(status=502, body=b"<html>bad gateway</html>"),
        Reply(hang_up=True),
        Reply(data={"long": "x" * 500}, cut=100),
        Reply(data={"long": "x" * 500}, cut=100, framed=False),
        Reply(data={"long": "x" * 500}, cut=100, chunked=True),
        Reply(status=429),
    ],
    ids=["503", "500", "502-html", "no-answer", "cut-by-length", "cut-unframed-json", "cut-chunks", "429"],
)
def test_a_get_is_repeated_until_it_is_answered_whole(first: Reply) -> None:
    with serving([first, first, FINE]) as server:
        assert client(server).get("/things").data == {"ok": True}
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    "first",
    [BUSY, Reply(status=500), Reply(hang_up=True), Reply(data={"long": "x" * 500}, cut=100), Reply(body=b"<html>")],
    ids=["503", "500", "lost-answer", "cut-answer", "html-answer"],
)
def test_a_post_is_not_repeated_and_its_outcome_is_unknown(first: Reply) -> None:
    with serving([first, FINE]) as server:
        with pytest.raises(UnknownOutcome, match="acme: POST /things"):
            client(server).post("/things", json={"name": "x"}, write=True)
        assert len(server.asked) == 1


def test_a_post_declared_repeatable_is_repeated() -> None:
    with serving([BUSY, Reply(hang_up=True), FINE]) as server:
        assert client(server).post("/search", json={}, repeatable=True).data == {"ok": True}
        assert len(server.asked) == 3


def test_a_post_that_was_turned_away_by_429_is_sent_again() -> None:
    with serving([Reply(status=429, headers={"Retry-After": "2"}), FINE]) as server:
        assert client(server).post("/things", json={}, write=True).status == 200
        assert len(server.asked) == 2


def test_a_refused_connection_is_transient_because_nothing_was_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    clock, traffic = Clock(), Traffic()
    http = Http(f"http://127.0.0.1:{port}", system="acme", clock=clock, sleep=clock.sleep, traffic=traffic)
    with pytest.raises(TransientError, match="nothing was sent"):
        http.post("/things", json={}, write=True)
    assert traffic.api_calls == 0
    assert len(clock.slept) == 2


def test_an_unlisted_4xx_is_never_retried() -> None:
    with serving([Reply(status=418, data={"message": "teapot"}), FINE]) as server:
        with pytest.raises(ContractError, match=r"teapot.*HTTP 418"):
            client(server).get("/things")
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthError),
        (403, AuthError),
        (404, ConfigError),
        (400, ContractError),
        (410, ConfigError),
        (422, ContractError),
    ],
)
def test_a_refusal_names_who_acts(status: int, error: type[SyncError]) -> None:
    with serving([Reply(status=status)]) as server:
        with pytest.raises(error):
            client(server).get("/things")
        assert len(server.asked) == 1


def test_retry_after_in_seconds_is_waited_out() -> None:
    clock = Clock()
    with serving([Reply(status=429, headers={"Retry-After": "17"}), FINE]) as server:
        client(server, clock).get("/things")
    assert clock.slept == [17.0]


def test_retry_after_as_a_date_is_waited_out() -> None:
    clock = Clock()
    date = formatdate(clock.now + 42, usegmt=True)
    with serving([Reply(status=503, headers={"Retry-After": date}), FINE]) as server:
        client(server, clock).get("/things")
    assert clock.slept == [42.0]


def test_without_retry_after_the_waits_grow() -> None:
    clock = Clock()
    with serving([Reply(status=429), Reply(status=429), Reply(status=429), FINE]) as server:
        client(server, clock).get("/things")
    assert clock.slept == [0.25, 0.5, 1.0]


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    clock = Clock()
    with serving([Reply(status=429, headers={"Retry-After": "3600"})]) as server:
        with pytest.raises(RateLimitError) as caught:
            client(server, clock, deadline=60.0).get("/things")
        assert len(server.asked) == 1
    assert caught.value.retry_after == 3600
    assert clock.slept == []


def test_endless_errors_end_at_the_deadline() -> None:
    clock = Clock()
    with serving([Reply(status=503, headers={"Retry-After": "20"})]) as server:
        with pytest.raises(TransientError):
            client(server, clock, deadline=70.0, attempts=1000).get("/things")
        assert len(server.asked) == 4
    assert clock.now - 1_790_000_000.0 <= 70.0


def test_a_429_holds_everyone_of_the_same_budget_back() -> None:
    clock = Clock()
    quota = MemoryQuota(clock=clock, sleep=clock.sleep)
    with serving([Reply(status=429, headers={"Retry-After": "30"}), FINE]) as server:
        with pytest.raises(RateLimitError):
            client(server, clock, quota=quota, attempts=1).get("/things")
        other = Traffic()
        client(server, clock, quota=quota, traffic=other).get("/things")
    assert other.seconds_waiting_for_quota >= 30.0


def test_a_page_that_is_not_json_is_a_contract_error_with_a_mend() -> None:
    with serving([Reply(body=b"<html>Please log in</html>", headers={"Content-Type": "text/html"})]) as server:
        with pytest.raises(ContractError, match="Please log in") as caught:
            client(server).get("/things")
        assert len(server.asked) == 1
    assert caught.value.mend is not None
    assert "base_url" in caught.value.mend


class Renewable:
    """An auth whose first token is stale."""

    def __init__(self) -> None:
        self.token = "stale-token-0"
        self.renewals = 0

    def current(self) -> Credential:
        return Credential(headers={"Authorization": f"Bearer {self.token}"}, token=Token(access=self.token))

    def renew(self, refused: Credential) -> Credential | None:
        self.renewals += 1
        self.token = f"fresh-token-{self.renewals}"
        return self.current()

    def secrets(self) -> Sequence[str]:
        return (self.token,)


def _only(token: str) -> Script:
    def script(asked: Asked) -> Reply:
        return (
            FINE if asked.headers["Authorization"] == f"Bearer {token}" else Reply(status=401, data={"was": "expired"})
        )

    return script


def test_a_401_is_answered_by_one_renewal_and_one_repeat_even_of_a_post() -> None:
    auth = Renewable()
    with serving(_only("fresh-token-1")) as server:
        assert client(server, auth=auth).post("/things", json={}, write=True).status == 200
        assert len(server.asked) == 2


def test_a_second_401_is_an_auth_error_and_not_a_loop() -> None:
    auth = Renewable()
    with serving(_only("never")) as server:
        with pytest.raises(AuthError):
            client(server, auth=auth).get("/things")
        assert len(server.asked) == 2
    assert auth.renewals == 1


def test_credentials_do_not_follow_a_redirect_to_another_host() -> None:
    with (
        serving([FINE]) as elsewhere,
        serving([Reply(status=302, headers={"Location": elsewhere.url + "/x"})]) as server,
    ):
        with pytest.raises(ConfigError, match="moved"):
            client(server, auth=StaticToken("secret-token")).get("/things")
        assert elsewhere.asked == []


def test_a_redirect_within_the_host_is_followed_for_a_get_only() -> None:
    def script(asked: Asked) -> Reply:
        return FINE if asked.path == "/new" else Reply(status=307, headers={"Location": "/new"})

    with serving(script) as server:
        assert client(server).get("/old").data == {"ok": True}
        with pytest.raises(ConfigError):
            client(server).post("/old", json={}, write=True)


def test_an_absolute_address_of_another_host_is_refused() -> None:
    with serving([FINE]) as server:
        with pytest.raises(ContractError, match="another host"):
            client(server).get("http://attacker.example/steal?x=1")
        assert server.asked == []


def test_secrets_and_query_strings_appear_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "urllib3")  # a vendor's SDK, once imported, leaves it at WARNING
    secret = "s3cr3t-app-secret"
    token = StaticToken("pat-token-123")
    with serving([Reply(status=400, data={"echo": secret, "token": "pat-token-123"})]) as server:
        http = client(server, auth=token, secrets=(secret,))
        with pytest.raises(ContractError) as caught:
            http.get("/things", params={"email": "ann@example.com"})
    shown = f"{caught.value}{caught.value!r}{json.dumps(caught.value.to_json())}{caplog.text}{token!r}{http!r}"
    for hidden in (secret, "pat-token-123", "ann@example.com", "ann%40"):
        assert hidden not in shown
    assert "/things" in caplog.text


def test_a_netrc_file_does_not_replace_our_credentials(tmp_path: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login them password theirs\n")
    code = (
        "import sys; from sync_platform.connectors.http import Http;"
        "from sync_platform.connectors.credentials import StaticToken;"
        "Http(sys.argv[1], system='acme', auth=StaticToken('ours')).get('/x')"
    )
    with serving([FINE]) as server:
        subprocess.run([sys.executable, "-c", code, server.url], env={**os.environ, "NETRC": str(netrc)}, check=True)
        assert server.asked[0].headers["Authorization"] == "Bearer ours"


def test_bodies_are_exact_and_large_ones_travel_compressed() -> None:
    with serving([FINE]) as server:
        http = client(server, gzip_over=100)
        http.post("/things", json={"price": Decimal("12345678901234567.89"), "note": "x" * 200}, repeatable=True)
        assert server.asked[0].headers["Content-Encoding"] == "gzip"
        assert b'"price":12345678901234567.89' in server.asked[0].body
        assert http.traffic.api_calls == 1
        assert 0 < http.traffic.bytes_sent < 200


def test_money_is_read_as_decimal_when_asked() -> None:
    with serving(
        [Reply(body=b'{"amount": 12345678901234567.89}', headers={"Content-Type": "application/json"})]
    ) as server:
        assert client(server).get("/x", exact=True).data == {"amount": Decimal("12345678901234567.89")}


def test_a_plus_in_a_parameter_is_encoded() -> None:
    with serving([FINE]) as server:
        client(server).get("/x", params={"q": "a > 2026-01-01T00:00:00+02:00", "none": None})
        assert server.asked[0].query == {"q": "a > 2026-01-01T00:00:00+02:00"}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_download_that_breaks_off_is_begun_again(zipped: bool, chunked: bool) -> None:
    content = os.urandom(300_000).hex().encode()
    whole = Reply(body=content, zipped=zipped, chunked=chunked)
    half = Reply(body=content, zipped=zipped, chunked=chunked, cut=100_000)
    with serving([half, whole]) as server:
        assert client(server).download("/file", lambda stream, _: stream.read()) == content
        assert len(server.asked) == 2


def test_a_download_whose_reader_finds_it_short_is_begun_again() -> None:
    def read(stream: Any, headers: Any) -> int:
        rows = len(stream.read().split())
        if rows != int(headers["X-Rows"]):
            raise TransientError(f"{rows} rows")
        return rows

    short = Reply(body=b"a b", headers={"X-Rows": "3"}, framed=False)
    with serving([short, Reply(body=b"a b c", headers={"X-Rows": "3"})]) as server:
        assert client(server).download("/file", read) == 3


def test_an_address_that_is_none_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="base_url"):
        Http("SALESFORCE_BASE_URL", system="acme")


@pytest.mark.parametrize(("point", "answered"), [("request_sent", False), ("answer_received", True)])
def test_a_crash_point_of_a_write_kills_after_the_server_has_the_request(point: str, answered: bool) -> None:
    code = (
        "import sys; from sync_platform.connectors.http import Http;"
        "h = Http(sys.argv[1], system='acme'); h.get('/read');"
        "h.post('/write', json={'a': 1}, write=True); print('alive')"
    )
    with serving([FINE]) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.url],
            env={**os.environ, "SYNC_CRASH_AT": point},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
        assert done.stdout == ""
        assert [one.path for one in server.asked][:1] == ["/read"]
        if answered:
            assert [one.path for one in server.asked] == ["/read", "/write"]
