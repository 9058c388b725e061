"""Faults of the control API: refusals, broken connections, held requests."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import requests
from salesforce_client import SalesforceClient


@pytest.mark.parametrize(
    ("kind", "code"), [("429", "REQUEST_LIMIT_EXCEEDED"), ("500", "UNKNOWN_EXCEPTION"), ("503", "SERVER_UNAVAILABLE")]
)
def test_an_error_fault_has_the_vendors_shape_and_stores_nothing(org: SalesforceClient, kind: str, code: str) -> None:
    org.fault(kind, times=2, match="POST /services/data/v60.0/sobjects")
    body = {"LastName": "a", "Company": "b"}
    org.get("limits")
    for _ in range(2):
        assert org.refused(org.call("POST", "sobjects/Lead", body)) == (int(kind), code)
    assert org.records() == []
    assert org.call("POST", "sobjects/Lead", body).status_code == 201
    (fault,) = org.control.get("faults")["faults"]
    assert (fault["hits"], fault["times"]) == (2, 0)
    assert [entry["fault"] for entry in org.log()[1:]] == [None, kind, kind, None]


def test_a_fault_replaces_its_like_and_zero_removes_it(org: SalesforceClient) -> None:
    org.fault("500", times=5)
    org.fault("500", times=1)
    org.fault("500", times=3, match="limits")
    assert [f["times"] for f in org.control.get("faults")["faults"]] == [1, 3]
    org.fault("500", times=0)
    org.fault("500", times=0, match="limits")
    assert org.control.get("faults") == {"faults": []}
    org.get("limits")


def test_a_rate_hits_that_share_of_requests(org: SalesforceClient) -> None:
    org.fault("503", rate=0.3)
    answers = [org.call("GET", "limits").status_code for _ in range(100)]
    assert 10 < answers.count(503) < 60
    assert org.control.get("faults")["faults"][0]["hits"] == answers.count(503)
    org.fault("503", rate=0)
    assert org.control.get("faults") == {"faults": []}


@pytest.mark.parametrize(("kind", "stored"), [("disconnect_before", 0), ("disconnect_after", 1)])
def test_a_disconnect_closes_the_connection_without_an_answer(org: SalesforceClient, kind: str, stored: int) -> None:
    org.fault(kind)
    with pytest.raises(requests.ConnectionError):
        org.call("POST", "sobjects/Lead", {"LastName": "a", "Company": "b"})
    assert len(org.records()) == stored
    entry = org.log()[-1]
    assert (entry["status"], entry["fault"], len(entry["records"])) == (None, kind, stored)
    assert org.get("limits")


def test_an_expired_token_fault_ends_all_sessions(org: SalesforceClient) -> None:
    org.fault("expire_token", match="GET")
    assert org.refused(org.call("GET", "limits")) == (401, "INVALID_SESSION_ID")
    org.login()
    assert org.get("limits")
    assert org.violations() == []


def test_a_slow_answer_is_stored_first(org: SalesforceClient) -> None:
    org.fault("slow", seconds=0.3)
    started = time.monotonic()
    assert org.call("POST", "sobjects/Lead", {"LastName": "a", "Company": "b"}).status_code == 201
    assert time.monotonic() - started >= 0.3


def test_a_timeout_stores_nothing_and_is_cut_short_by_a_reset(org: SalesforceClient) -> None:
    org.fault("timeout")
    with pytest.raises(requests.ReadTimeout):
        org.session.get(f"{org.base}/services/data/", timeout=0.2)
    org.fault("timeout", match="POST")
    failures: list[Exception] = []
    caller = threading.Thread(target=_create, args=(org, failures))
    caller.start()
    _until(lambda: org.log()[-1]["fault"] == "timeout" and org.log()[-1]["method"] == "POST")
    org.control.post("reset")
    caller.join(10)
    assert not caller.is_alive()
    assert isinstance(failures[0], requests.ConnectionError)
    assert org.records() == []


def _create(org: SalesforceClient, failures: list[Exception]) -> None:
    try:
        org.call("POST", "sobjects/Lead", {"LastName": "a", "Company": "b"}).raise_for_status()
    except requests.RequestException as error:
        failures.append(error)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("kind", "meanwhile"), [("hold_before", 0), ("hold_after", 1)])
def test_a_held_request_waits_for_its_release(org: SalesforceClient, kind: str, meanwhile: int) -> None:
    org.fault(kind, match="sobjects")
    failures: list[Exception] = []
    caller = threading.Thread(target=_create, args=(org, failures))
    caller.start()
    _until(lambda: org.control.get("held")["held"])
    (held,) = org.control.get("held")["held"]
    assert held == {
        "seq": org.log()[-1]["seq"], "system": "salesforce", "path": "/services/data/v60.0/sobjects/Lead",
    }  # fmt: skip
    assert len(org.records()) == meanwhile
    assert org.control.post("release") == {"released": 1}
    caller.join(10)
    assert failures == []
    assert len(org.records()) == 1
    assert org.log()[-1]["status"] == 201
    assert org.control.get("held") == {"held": []}


@pytest.mark.parametrize(("kind", "stored"), [("hold_before", 0), ("hold_after", 1)])
def test_a_held_request_whose_client_is_gone_never_goes_on(org: SalesforceClient, kind: str, stored: int) -> None:
    org.fault(kind, match="sobjects")
    headers = {"Authorization": f"Bearer {org.token}"}
    url = f"{org.base}/services/data/v60.0/sobjects/Lead"
    with pytest.raises(requests.ReadTimeout):
        requests.post(url, json={"LastName": "a", "Company": "b"}, headers=headers, timeout=0.3)
    _until(lambda: not org.control.get("held")["held"])
    assert org.control.post("release") == {"released": 0}
    assert len(org.records()) == stored
    assert org.log()[-1]["status"] is None


def test_too_many_long_requests_at_once_are_refused(org: SalesforceClient) -> None:
    org.habit("concurrent_long_requests", value=2)
    org.fault("hold_after", times=2, match="POST /services/data")
    callers = [threading.Thread(target=_create, args=(org, [])) for _ in range(2)]
    for caller in callers:
        caller.start()
    _until(lambda: len(org.control.get("held")["held"]) == 2)
    org.get("limits")
    org.advance(20)
    assert org.refused(org.call("GET", "limits")) == (403, "REQUEST_LIMIT_EXCEEDED")
    org.control.post("release")
    for caller in callers:
        caller.join(10)
    org.get("limits")
