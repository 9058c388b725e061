"""The gateway when things go wrong around it: kill -9, a state that is away, too many requests, a proxy, a stop."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from sync_platform.home import Home
from sync_platform.state.database import Database, open_state
from tests.private_postgres import PrivateServer
from tests.unit.realtime.gateways import RunningGateway, Written, change, signed

pytestmark = pytest.mark.xdist_group("gateway-faults")


def of(state: Database, project: Written, *options: str, **variables: str) -> RunningGateway:
    """A gateway on a state of one test's own."""
    return RunningGateway(
        project=project.root, home=state.home.root, database_url=state.url, options=options, variables=variables
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateServer]:
    """A PostgreSQL that a test may stop, with a migrated state in it."""
    with PrivateServer() as running:
        open_state(Home(tmp_path / "migrating"), url=running.url()).close()
        yield running


# Killed


def test_killed_before_it_is_stored_an_event_is_not_answered_and_the_vendors_repetition_brings_it(
    fresh_state: Database, project: Written
) -> None:
    event = change(1)
    with of(fresh_state, project, SYNC_CRASH_AT="event_verified") as dying:
        with pytest.raises(requests.ConnectionError):
            dying.hubspot(event)
        assert dying.process is not None
        assert dying.process.wait(timeout=10) == -signal.SIGKILL
        assert dying.stored() == []
    with of(fresh_state, project) as gateway:
        assert gateway.hubspot(event).status_code == 200
        assert [row[3] for row in gateway.stored()] == ["1"]


def test_killed_before_it_is_answered_an_event_is_stored_and_the_vendors_repetition_doubles_nothing(
    fresh_state: Database, project: Written
) -> None:
    event = change(1)
    with of(fresh_state, project, SYNC_CRASH_AT="event_stored:2") as dying:
        assert dying.hubspot(change(2)).status_code == 200
        with pytest.raises(requests.ConnectionError):
            dying.hubspot(event)
        assert dying.process is not None
        assert dying.process.wait(timeout=10) == -signal.SIGKILL
        assert [row[3] for row in dying.stored()] == ["2", "1"]
    with of(fresh_state, project) as gateway:
        assert gateway.hubspot(event).status_code == 200
        assert [row[3] for row in gateway.stored()] == ["2", "1"]
        assert len(gateway.queued("1")) == 2


# Without its state


def test_while_the_state_is_down_nothing_is_promised_and_afterwards_all_goes_on(
    server: PrivateServer, project: Written, tmp_path: Path
) -> None:
    event = change(1)
    gateway = RunningGateway(project=project.root, home=tmp_path / "home", database_url=server.url())
    with gateway:
        assert gateway.hubspot(change(2)).status_code == 200
        server.stop(kill=True)
        answers = [gateway.hubspot(event) for _ in range(3)]
        assert [one.status_code for one in answers] == [503, 503, 503]
        assert {(one.json()["error"], one.headers["Retry-After"]) for one in answers} == {("state_down", "5")}
        assert requests.get(f"{gateway.url}/healthz", timeout=10).status_code == 200
        ready = requests.get(f"{gateway.url}/readyz", timeout=10)
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "password" not in ready.text
        told = gateway.metrics()
        assert told["sync_state_up"] == 0
        assert told['sync_webhook_refused_total{connection="hubspot",reason="state_down"}'] == 3
        assert told['sync_events_stored_total{connection="hubspot"}'] == 1
        server.start()
        assert [row[3] for row in gateway.stored()] == ["2"]
        assert gateway.hubspot(event).status_code == 200
        assert [row[3] for row in gateway.stored()] == ["2", "1"]
        assert requests.get(f"{gateway.url}/readyz", timeout=10).status_code == 200
    assert server.password not in gateway.log.read_text()


def test_a_restart_of_the_state_between_two_webhooks_is_not_noticed(
    server: PrivateServer, project: Written, tmp_path: Path
) -> None:
    with RunningGateway(project=project.root, home=tmp_path / "home", database_url=server.url()) as gateway:
        assert gateway.hubspot(change(1)).status_code == 200
        server.stop()
        server.start()
        assert gateway.hubspot(change(2)).status_code == 200
        assert [row[3] for row in gateway.stored()] == ["1", "2"]


def test_a_state_that_hangs_is_answered_for_before_the_vendor_gives_up(fresh_state: Database, project: Written) -> None:
    with of(fresh_state, project) as gateway, fresh_state.session() as person:
        assert gateway.hubspot(change(1)).status_code == 200
        with person.transaction():
            person.execute("LOCK TABLE sync.inbox IN ACCESS EXCLUSIVE MODE")
            answer = gateway.hubspot(change(2), patience=5.0)  # as long as HubSpot waits
            assert (answer.status_code, answer.json()["error"]) == (503, "state_down")
        assert gateway.hubspot(change(3)).status_code == 200
        assert {"1", "3"} <= {row[3] for row in gateway.stored()}


# Options


def test_beyond_the_rate_the_vendor_is_told_when_to_come_again_and_another_connection_is_not(
    fresh_state: Database, project: Written
) -> None:
    with of(fresh_state, project, "--rate", "5") as gateway:
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(gateway.hubspot, [change(number) for number in range(40)]))
        limited = [one for one in answers if one.status_code == 429]
        taken = [one for one in answers if one.status_code == 200]
        assert len(limited) + len(taken) == 40
        assert len(taken) >= 5
        assert limited
        assert {(one.json()["error"], one.headers["Retry-After"]) for one in limited} == {("rate_limited", "1")}
        assert len(gateway.stored()) == len(taken)
        assert gateway.hubspot(change(99), connection="asking").status_code == 200
        time.sleep(1.0)
        assert gateway.hubspot(change(98)).status_code == 200
        name = 'sync_webhook_refused_total{connection="hubspot",reason="rate_limited"}'
        assert gateway.metrics()[name] == len(limited)


def test_behind_a_proxy_the_public_address_is_what_was_signed(fresh_state: Database, project: Written) -> None:
    public = "https://hooks.example.com/in"
    (project.root / ".env").write_text(f"SYNC_PUBLIC_URL={public}/\n")
    with of(fresh_state, project, "--max-body", "2000") as gateway:
        body = json.dumps([change(1)]).encode()
        assert gateway.post("hubspot", body, signed(body, f"{public}/webhooks/hubspot")).status_code == 200
        assert gateway.post("hubspot", body, signed(body, f"{gateway.url}/webhooks/hubspot")).status_code == 401
        large = json.dumps([change(number) for number in range(30)]).encode()
        assert gateway.post("hubspot", large, signed(large, f"{public}/webhooks/hubspot")).status_code == 413


def test_a_taken_port_and_a_public_url_that_is_none_end_the_command_with_a_sentence(
    fresh_state: Database, project: Written
) -> None:
    gateway = of(fresh_state, project)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, told = gateway.cli("gateway", "--port", str(taken.getsockname()[1]))
    assert (code, told["error"]["code"]) == (3, "access")
    code, told = gateway.cli("gateway", "--port", str(gateway.port), "--public-url", "hooks.example.com")
    assert (code, told["error"]["field"]) == (2, "--public-url")


# Stopped


def test_asked_to_stop_it_first_answers_the_request_under_way(fresh_state: Database, project: Written) -> None:
    with of(fresh_state, project) as gateway:
        body = json.dumps([change(1)]).encode()
        fields = {"Host": f"127.0.0.1:{gateway.port}", "Content-Length": str(len(body))}
        fields |= signed(body, f"{gateway.url}/webhooks/hubspot")
        lines = [f"{name}: {value}" for name, value in fields.items()]
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as vendor:
            vendor.sendall("\r\n".join(["POST /webhooks/hubspot HTTP/1.1", *lines, "", ""]).encode() + body[:20])
            time.sleep(0.3)
            assert gateway.process is not None
            gateway.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            vendor.sendall(body[20:])
            assert vendor.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert gateway.process.wait(timeout=20) == 0
        assert [row[3] for row in gateway.stored()] == ["1"]
