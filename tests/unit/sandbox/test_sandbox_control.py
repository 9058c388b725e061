"""The control API, driven over HTTP as any outsider would."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from salesforce_client import SalesforceClient, salesforce

from sync_platform.sandbox.server import ControlError, SandboxProcess, env_lines

YESTERDAY = "2026-09-20T00:00:00.000Z"


def emails(records: list[dict[str, Any]]) -> list[str | None]:
    return [record["fields"]["Email"] for record in records]


def test_health_tells_the_systems_the_seed_and_the_clock(org: SalesforceClient) -> None:
    assert org.control.get("health") == {
        "status": "ok", "systems": ["salesforce"], "seed": 7, "now": "2026-09-21T14:13:20.000Z",
    }  # fmt: skip
    org.advance(1.5)
    assert org.control.get("health")["now"] == "2026-09-21T14:13:21.500Z"


def test_the_sandbox_starts_empty(org: SalesforceClient) -> None:
    assert [org.records(stream) for stream in ("Lead", "Contact", "Account", "Opportunity", "Campaign")] == [[]] * 5
    assert org.violations() == []


def test_a_seed_makes_what_was_asked_for(org: SalesforceClient) -> None:
    ids = org.seed(247, missing={"Email": 2}, invalid={"Email": 1, "Website": 1}, duplicates=12, older=50)
    assert len(ids) == len(set(ids)) == 247 + 12 + 50
    records = org.records()
    assert [record["id"] for record in records] == ids
    assert emails(records).count(None) == 2
    assert sum(1 for e in emails(records) if e and "@" not in e) == 1
    recent = [r for r in records if r["fields"]["LastModifiedDate"] >= YESTERDAY]
    assert len(recent) == 247 + 12
    folded = [str(e).strip().lower() for e in emails(recent) if e]
    assert len(set(folded)) == 247 - 2
    doubled = [n for n, e in enumerate(folded) if folded.count(e) > 1]
    assert len(doubled) == 24
    exact = emails(recent)
    assert len(set(exact) - {None}) == 245 + 12  # typed otherwise, each of them
    assert max(doubled) - min(doubled) > 100  # scattered
    assert all(record["created_at"] <= record["updated_at"] <= "2026-09-21T14:13:20.000Z" for record in records)


def test_a_later_seed_is_stamped_after_what_could_already_have_been_read(org: SalesforceClient) -> None:
    org.seed(50)
    newest = max(record["updated_at"] for record in org.records())
    org.advance(30)
    added = set(org.seed(20, older=3))
    assert all(record["updated_at"] >= newest for record in org.records() if record["id"] in added)


@pytest.mark.parametrize(("advanced", "yesterday"), [(0, "2026-09-20"), (35_199, "2026-09-20"), (35_210, "2026-09-21")])
def test_seeds_are_changed_since_yesterday_also_around_midnight(
    org: SalesforceClient, advanced: int, yesterday: str
) -> None:
    org.advance(advanced)
    now = org.control.get("health")["now"]
    org.seed(100)
    assert min(record["fields"]["LastModifiedDate"] for record in org.records()) >= yesterday
    assert max(record["updated_at"] for record in org.records()) <= now


def test_the_same_seed_gives_the_same_records_after_a_reset_and_in_another_sandbox(org: SalesforceClient) -> None:
    org.seed(40, duplicates=3)
    first = org.records()
    assert org.control.post("reset") == {"ok": True}
    assert org.records() == []
    org.seed(40, duplicates=3)
    assert org.records() == first
    with salesforce(seed=7) as other:
        other.seed(40, duplicates=3)
        assert other.records() == first
    with salesforce(seed=8) as different:
        different.seed(40, duplicates=3)
        assert different.records() != first


def test_people_have_the_names_that_break_things(org: SalesforceClient) -> None:
    org.seed(400)
    text = "".join(
        f"{r['fields']['LastName']}{r['fields']['Company']}{r['fields']['Description']}" for r in org.records()
    )
    assert all(piece in text for piece in ("é", "ü", "'", '"', "🚀", ",", "\n", "&"))


def test_a_person_edits_all_or_nothing_by_the_vendors_rules(org: SalesforceClient) -> None:
    (id,) = org.leads({"City": "Köln"})
    with pytest.raises(ControlError) as caught:
        org.control.post(
            "records/salesforce/Lead", [{"id": id, "fields": {"City": "Bonn"}}, {"fields": {"LastName": "a"}}]
        )
    assert caught.value.status == 400
    assert caught.value.body["field"] == "Company"
    assert "REQUIRED_FIELD_MISSING" in caught.value.body["error"]
    (record,) = org.records()
    assert record["fields"]["City"] == "Köln"
    assert record["fields"]["Name"] == "Doe"
    assert org.control.post("records/salesforce/Lead", [{"id": id, "fields": {"City": None}}]) == {"ids": [id]}
    assert org.records()[0]["fields"]["City"] is None
    assert org.control.delete("records/salesforce/Lead", [id]) == {"deleted": 1}
    assert org.records() == []
    assert [r["deleted"] for r in org.records(deleted="include")] == [True]
    assert [entry["path"] for entry in org.log()] == ["/services/oauth2/token"]  # people are not in the log


def test_an_edit_of_an_unknown_record_is_refused_and_nothing_is_stored(org: SalesforceClient) -> None:
    for id, status in (("00QSB00000000zz", 404), ("junk", 400)):
        with pytest.raises(ControlError) as caught:
            org.control.post("records/salesforce/Lead", [{"fields": {"LastName": "a", "Company": "b"}},
                                                         {"id": id, "fields": {"City": "x"}}])  # fmt: skip
        assert caught.value.status == status
    with pytest.raises(ControlError, match="404"):
        org.control.delete("records/salesforce/Lead", ["00QSB00000000zz"])
    assert org.records() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("GET", "nope", None, 404, "path"),
        ("GET", "health?x=1", None, 400, "x"),
        ("DELETE", "health", None, 405, "method"),
        ("POST", "reset", {"system": "nope"}, 404, "system"),
        ("POST", "reset", {"sistem": "salesforce"}, 400, "sistem"),
        ("POST", "reset", [], 400, "body"),
        ("POST", "seed", {"system": "salesforce", "stream": "Lead"}, 400, "count"),
        ("POST", "seed", {"system": "salesforce", "stream": "Lead", "count": -1}, 400, "count"),
        ("POST", "seed", {"system": "salesforce", "stream": "Nope", "count": 1}, 404, "stream"),
        ("POST", "seed", {"system": "x", "stream": "Lead", "count": 1}, 404, "system"),
        ("POST", "seed", {"system": "salesforce", "stream": "Lead", "count": 1, "options": {"x": 1}}, 400, "options.x"),
        ("POST", "seed", {"system": "salesforce", "stream": "Lead", "count": 1,
                          "options": {"missing": {"Nope": 1}}}, 400, "options.missing.Nope"),
        ("POST", "seed", {"system": "salesforce", "stream": "Lead", "count": 1,
                          "options": {"missing": {"Email": 2}}}, 400, "options"),
        ("POST", "seed", {"system": "salesforce", "stream": "Lead", "count": 1,
                          "options": {"missing": {"Email": 1}, "duplicates": 1}}, 400, "options.duplicates"),
        ("POST", "seed", {"system": "salesforce", "stream": "Lead", "count": 1,
                          "options": {"invalid": {"Score__c": 1}}}, 400, "options.invalid.Score__c"),
        ("GET", "records/salesforce/Nope", None, 404, "stream"),
        ("GET", "records/nope/Lead", None, 404, "system"),
        ("GET", "records/salesforce/Lead?deleted=yes", None, 400, "deleted"),
        ("POST", "records/salesforce/Lead", {}, 400, "body"),
        ("POST", "records/salesforce/Lead", [{"fields": {}, "x": 1}], 400, "x"),
        ("POST", "records/salesforce/Lead", [{"id": "x"}], 400, "fields"),
        ("DELETE", "records/salesforce/Lead", [1], 400, "body"),
        ("POST", "faults", {"system": "salesforce", "kind": "418", "times": 1}, 400, "kind"),
        ("POST", "faults", {"system": "salesforce", "kind": "429"}, 400, "times"),
        ("POST", "faults", {"system": "salesforce", "kind": "429", "times": 1, "rate": 0.5}, 400, "times"),
        ("POST", "faults", {"system": "salesforce", "kind": "429", "rate": 2}, 400, "rate"),
        ("POST", "faults", {"system": "salesforce", "kind": "429", "times": 1, "seconds": 3}, 400, "seconds"),
        ("POST", "faults", {"system": "salesforce", "kind": "429", "times": 1, "when": 3}, 400, "when"),
        ("POST", "release", {"all": True}, 400, "all"),
        ("GET", "log?since=x", None, 400, "since"),
        ("GET", "log?system=nope", None, 404, "system"),
        ("POST", "habits", {"system": "salesforce", "name": "nope"}, 404, "name"),
        ("POST", "habits", {"system": "salesforce", "name": "token_life", "on": 1}, 400, "on"),
        ("POST", "habits", {"system": "salesforce", "name": "token_life", "value": "1"}, 400, "value"),
        ("POST", "clock", {"advance_seconds": -1}, 400, "advance_seconds"),
        ("POST", "clock", {}, 400, "advance_seconds"),
        ("POST", "webhooks", {"system": "salesforce", "target_url": "http://127.0.0.1/", "secret": "s",
                              "options": {"nope": 1}}, 400, "options.nope"),
        ("POST", "webhooks", {"system": "salesforce", "target_url": "ftp://127.0.0.1/"}, 400, "target_url"),
        ("POST", "webhooks", {"system": "salesforce", "target_url": "http://127.0.0.1/a b"}, 400, "target_url"),
        ("POST", "webhooks", {"system": "salesforce", "target_url": "http://127.0.0.1/", "secret": 1}, 400, "secret"),
        ("POST", "webhooks", {"system": "salesforce", "target_url": "http://127.0.0.1/", "options": {"drop_rate": 2}},
         400, "options.drop_rate"),
        ("POST", "webhooks", {"system": "salesforce", "target_url": "http://127.0.0.1/", "options": {"reorder": 1}},
         400, "options.reorder"),
        ("POST", "webhooks", {"system": "salesforce", "target_url": "http://127.0.0.1/", "options": {"delay_ms": -1}},
         400, "options.delay_ms"),
        ("POST", "webhooks", {"system": "salesforce", "target_url": "http://127.0.0.1/", "subscriptions": []},
         400, "subscriptions"),
        ("POST", "webhooks", {"system": "salesforce", "target_url": "http://127.0.0.1/",
                              "messages": [{"object": "Lead", "fields": ["Nope"]}]}, 400, "messages"),
        ("DELETE", "webhooks", {"system": "nope"}, 404, "system"),
        ("GET", "deliveries?since=x", None, 400, "since"),
        ("POST", "restore", {"system": "salesforce", "stream": "Lead", "ids": [1]}, 400, "ids"),
        ("POST", "restore", {"system": "salesforce", "stream": "Lead", "ids": ["x"]}, 501, "system"),
    ],
)  # fmt: skip
def test_what_the_control_api_does_not_know_is_named(
    org: SalesforceClient, method: str, path: str, body: object, status: int, field: str
) -> None:
    with pytest.raises(ControlError) as caught:
        org.control.call(method, path, body)
    assert (caught.value.status, caught.value.body["field"]) == (status, field)
    assert set(caught.value.body) == {"error", "field"}


def test_a_body_that_is_not_json_is_a_400(org: SalesforceClient) -> None:
    answer = requests.post(f"{org.url}/__control__/clock", data=b"{", timeout=10)
    assert (answer.status_code, answer.json()["field"]) == (400, "body")


def test_the_log_shows_each_vendor_request_and_what_it_wrote(org: SalesforceClient) -> None:
    org.call("POST", "sobjects/Lead", {"LastName": "a", "Company": "b"}, params={"x": "1 2"})
    org.get("limits")
    entries = org.log()
    id = org.records()[0]["id"]
    assert entries[1] == {
        "seq": entries[1]["seq"], "time": "2026-09-21T14:13:20.000Z", "system": "salesforce", "method": "POST",
        "path": "/services/data/v60.0/sobjects/Lead", "query": "x=1+2", "status": 201, "fault": None,
        "records": [{"stream": "Lead", "id": id, "op": "create", "applied": True}],
    }  # fmt: skip
    assert entries[2]["records"] == []
    since = org.control.get(f"log?system=salesforce&since={entries[1]['seq']}")["requests"]
    assert since == entries[2:]


def test_habits_are_listed_with_their_source_and_survive_a_reset(org: SalesforceClient) -> None:
    habits = org.control.get("habits")["habits"]
    assert all(h["system"] == "salesforce" and h["source"].startswith("https://") for h in habits)
    off = {h["name"] for h in habits if not h["on"]}
    assert off == {"refresh_rotation", "query_cursors", "duplicate_rule", "row_locks", "hidden_fields"}
    shown = org.control.post("habits", {"system": "salesforce", "name": "token_life", "on": False, "value": 60})
    assert (shown["habit"]["on"], shown["habit"]["value"]) == (False, 60)
    org.control.post("reset")
    assert [h["value"] for h in org.control.get("habits")["habits"] if h["name"] == "token_life"] == [60]


def test_a_reset_forgets_records_faults_log_clock_tokens_and_quota(org: SalesforceClient) -> None:
    org.seed(3)
    org.call("GET", "nope")
    org.advance(100)
    org.fault("500", times=5)
    seq = org.log()[-1]["seq"]
    org.control.post("reset", {"system": "salesforce"})
    assert org.control.get("health")["now"] == "2026-09-21T14:15:00.000Z"  # the clock is everyone's
    org.control.post("reset")
    assert org.control.get("health")["now"] == "2026-09-21T14:13:20.000Z"
    assert org.control.get("faults") == {"faults": []}
    assert (org.records(), org.log(), org.violations()) == ([], [], [])
    assert org.refused(org.call("GET", "limits")) == (401, "INVALID_SESSION_ID")
    org.login()
    assert org.get("limits")["DailyApiRequests"]["Remaining"] == 100_000 - 1
    assert org.log()[0]["seq"] > seq


def test_an_unknown_system_is_a_404(org: SalesforceClient) -> None:
    answer = requests.get(f"{org.url}/nope/x", timeout=10)
    assert (answer.status_code, answer.json()["field"]) == (404, "system")


def test_the_env_lines_name_every_credential_without_quotes() -> None:
    lines = env_lines(8901, ["salesforce"])
    assert lines[0] == "SALESFORCE_BASE_URL=http://127.0.0.1:8901/salesforce"
    assert {line.partition("=")[0] for line in lines} >= {"SALESFORCE_CLIENT_ID", "SALESFORCE_CLIENT_SECRET"}
    assert all(value and not set(value) & set("'\" ") for _, _, value in (line.partition("=") for line in lines))


def test_a_sandbox_process_serves_and_ends_when_stopped() -> None:
    with SandboxProcess(seed=11) as sandbox:
        assert sandbox.control.get("health")["seed"] == 11
        url = sandbox.url
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/__control__/health", timeout=5)


def test_the_clock_is_the_real_one_plus_what_was_advanced() -> None:
    with SandboxProcess() as sandbox:
        before = sandbox.control.get("health")["now"]
        sandbox.control.post("clock", {"advance_seconds": 3600})
        assert sandbox.control.get("health")["now"][11:13] != before[11:13]
