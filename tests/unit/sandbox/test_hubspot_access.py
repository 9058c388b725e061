"""Tokens, scopes, limits, faults and the properties API over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from hubspot_client import HubSpotClient, fresh

CONTACTS = "/crm/v3/objects/contacts"
PROPERTIES = "/crm/v3/properties/contacts"
TEXT = {"label": "X", "type": "string", "fieldType": "text", "groupName": "contactinformation"}


def grant(hubspot: HubSpotClient, version: str = "v1", **form: str) -> requests.Response:
    client = {"client_id": hubspot.env["HUBSPOT_CLIENT_ID"], "client_secret": hubspot.env["HUBSPOT_CLIENT_SECRET"]}
    return hubspot.session.post(f"{hubspot.base}/oauth/{version}/token", data={**client, **form})


def refresh(hubspot: HubSpotClient, version: str = "v1", **form: str) -> requests.Response:
    token = {"grant_type": "refresh_token", "refresh_token": hubspot.env["HUBSPOT_REFRESH_TOKEN"]}
    return grant(hubspot, version, **{**token, **form})


# ---- tokens and scopes


def test_an_oauth_token_lives_thirty_minutes_of_the_sandbox_clock(hubspot: HubSpotClient) -> None:
    hubspot.token = refresh(hubspot).json()["access_token"]
    hubspot.advance(1799)
    assert hubspot.call("GET", CONTACTS).status_code == 200
    hubspot.advance(6)
    expired = hubspot.call("GET", CONTACTS)
    assert (expired.status_code, expired.json()["category"]) == (401, "EXPIRED_AUTHENTICATION")
    assert expired.json()["context"]["expire time"]
    hubspot.token = refresh(hubspot).json()["access_token"]
    assert hubspot.call("GET", CONTACTS).status_code == 200
    assert hubspot.violations() == []


@pytest.mark.parametrize("token", [None, "pat-na1-wrong", ""])
def test_a_missing_or_unknown_token_is_invalid_authentication(hubspot: HubSpotClient, token: str | None) -> None:
    hubspot.token = token
    answer = hubspot.call("GET", CONTACTS)
    assert (answer.status_code, answer.json()["category"]) == (401, "INVALID_AUTHENTICATION")


def test_expiring_tokens_ends_those_given_out_but_not_a_private_apps(hubspot: HubSpotClient) -> None:
    private, hubspot.token = hubspot.token, refresh(hubspot).json()["access_token"]
    hubspot.control.post("faults", {"system": "hubspot", "kind": "expire_token", "times": 1})
    assert hubspot.call("GET", CONTACTS).json()["category"] == "EXPIRED_AUTHENTICATION"
    hubspot.token = private
    assert hubspot.call("GET", CONTACTS).status_code == 200


def test_a_token_without_the_scope_is_forbidden(hubspot: HubSpotClient) -> None:
    hubspot.token = hubspot.env["HUBSPOT_LIMITED_ACCESS_TOKEN"]
    assert hubspot.call("GET", CONTACTS).status_code == 200
    for method, path in (("POST", CONTACTS), ("GET", "/crm/v3/objects/deals"), ("POST", PROPERTIES)):
        answer = hubspot.call(method, path, {"properties": {"email": "a@example.com"}} if method == "POST" else None)
        assert (answer.status_code, answer.json()["category"]) == (403, "MISSING_SCOPES")
        assert answer.json()["errors"][0]["context"]["requiredGranularScopes"]


def test_the_authorisation_code_flow_hands_out_a_working_pair_once(hubspot: HubSpotClient) -> None:
    back = "http://127.0.0.1:1/back"
    query = {
        "client_id": hubspot.env["HUBSPOT_CLIENT_ID"],
        "redirect_uri": back,
        "state": "s",
        "scope": "crm.objects.contacts.read",
    }
    redirect = hubspot.session.get(f"{hubspot.base}/oauth/authorize", params=query, allow_redirects=False)
    returned = parse_qs(urlsplit(redirect.headers["location"]).query)
    assert (redirect.status_code, returned["state"]) == (302, ["s"])
    form = {"grant_type": "authorization_code", "code": returned["code"][0], "redirect_uri": back}
    first = grant(hubspot, "2026-03", **form).json()
    assert grant(hubspot, "2026-03", **form).json()["status"] == "BAD_AUTH_CODE"
    hubspot.token = first["access_token"]
    assert hubspot.call("GET", CONTACTS).status_code == 200
    assert hubspot.call("POST", CONTACTS, {"properties": {}}).status_code == 403
    about = hubspot.get(f"/oauth/v1/refresh-tokens/{first['refresh_token']}")
    assert about["scopes"] == ["crm.objects.contacts.read"]
    hubspot.call("DELETE", f"/oauth/v1/refresh-tokens/{first['refresh_token']}")
    assert refresh(hubspot, refresh_token=first["refresh_token"]).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("version", "form", "status"),
    [
        ("v1", {"refresh_token": "na1-wrong"}, "BAD_REFRESH_TOKEN"),
        ("v3", {"client_secret": "wrong"}, "BAD_CLIENT_SECRET"),
        ("2026-09", {"client_id": "wrong"}, "BAD_CLIENT_ID"),
        ("v1", {"grant_type": "client_credentials"}, "BAD_GRANT_TYPE"),
        ("2026-09", {"grant_type": "client_credentials"}, "BAD_GRANT_TYPE"),
    ],
)
def test_a_refused_grant_names_its_cause(
    hubspot: HubSpotClient, version: str, form: dict[str, str], status: str
) -> None:
    answer = refresh(hubspot, version, **form)
    assert (answer.status_code, answer.json()["status"]) == (400, status)


def test_client_credentials_give_a_token_where_documented(hubspot: HubSpotClient) -> None:
    for version in ("v3", "2026-03"):
        granted = grant(hubspot, version, grant_type="client_credentials", scope="crm.objects.deals.read").json()
        assert "refresh_token" not in granted
        hubspot.token = granted["access_token"]
        assert hubspot.call("GET", "/crm/v3/objects/deals").status_code == 200
        assert hubspot.call("GET", CONTACTS).status_code == 403


def test_a_rotated_refresh_token_works_once(hubspot: HubSpotClient) -> None:
    assert refresh(hubspot).json()["refresh_token"] == hubspot.env["HUBSPOT_REFRESH_TOKEN"]
    hubspot.habit("refresh_token_rotates", on=True)
    renewed = refresh(hubspot).json()["refresh_token"]
    assert refresh(hubspot).status_code == 400
    assert refresh(hubspot, refresh_token=renewed).status_code == 200


def test_account_details_name_the_portal(hubspot: HubSpotClient) -> None:
    assert hubspot.get("/account-info/v3/details")["portalId"] == int(hubspot.env["HUBSPOT_PORTAL_ID"])


# ---- limits and faults


def test_the_hundred_and_ninety_first_request_in_ten_seconds_is_one_too_many(hubspot: HubSpotClient) -> None:
    for left in range(189, -1, -1):
        answer = hubspot.call("GET", CONTACTS)
        assert answer.headers["X-HubSpot-RateLimit-Remaining"] == str(left)
    refused = hubspot.call("GET", CONTACTS)
    assert refused.status_code == 429
    assert refused.json()["policyName"] == "TEN_SECONDLY_ROLLING"
    assert refused.headers["X-HubSpot-RateLimit-Max"] == "190"
    assert refused.headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "10000"
    assert refused.headers["X-HubSpot-RateLimit-Daily-Remaining"] == str(650_000 - 191)
    hubspot.advance(10)
    assert hubspot.call("GET", CONTACTS).status_code == 200
    assert hubspot.violations() == []


def test_an_oauth_app_may_ask_a_hundred_and_ten_times_and_sees_no_daily_limit(hubspot: HubSpotClient) -> None:
    hubspot.token = refresh(hubspot).json()["access_token"]
    hubspot.habit("oauth_app_limit", value=2)
    headers = hubspot.call("GET", CONTACTS).headers
    assert headers["X-HubSpot-RateLimit-Max"] == "2"
    assert "X-HubSpot-RateLimit-Daily" not in headers
    hubspot.token = refresh(hubspot).json()["access_token"]
    assert [hubspot.call("GET", CONTACTS).status_code for _ in range(2)] == [200, 429]


def test_the_sixth_search_in_a_second_is_refused_without_policy_or_wait(hubspot: HubSpotClient) -> None:
    statuses = [hubspot.call("POST", f"{CONTACTS}/search", {}) for _ in range(6)]
    assert [answer.status_code for answer in statuses] == [200] * 5 + [429]
    assert not any("ratelimit" in name.lower() for name in statuses[0].headers)
    refused = statuses[-1]
    assert refused.json()["message"] == "You have reached your secondly limit."
    assert "policyName" not in refused.json()
    limits = {name.lower() for name in refused.headers if "ratelimit" in name.lower() or name.lower() == "retry-after"}
    assert limits == {"x-hubspot-ratelimit-daily", "x-hubspot-ratelimit-daily-remaining"}
    hubspot.advance(1)
    assert hubspot.call("POST", "/crm/v3/objects/deals/search", {}).status_code == 200


def test_the_daily_limit_ends_at_midnight(hubspot: HubSpotClient) -> None:
    hubspot.habit("daily_limit", value=2)
    assert [hubspot.call("GET", CONTACTS).status_code for _ in range(3)] == [200, 200, 429]
    assert hubspot.call("GET", CONTACTS).json()["policyName"] == "DAILY"
    hubspot.advance(86_400)
    assert hubspot.call("GET", CONTACTS).status_code == 200


@pytest.mark.parametrize("kind", ["429", "500", "503"])
def test_faults_answer_in_the_vendors_shape(hubspot: HubSpotClient, kind: str) -> None:
    hubspot.control.post("faults", {"system": "hubspot", "kind": kind, "times": 1})
    answer = hubspot.call("GET", CONTACTS)
    assert answer.status_code == int(kind)
    assert answer.json()["status"] == "error"
    assert answer.json()["correlationId"]
    assert hubspot.violations() == []


def test_every_habit_cites_its_source_and_only_unverified_ones_are_off(hubspot: HubSpotClient) -> None:
    habits = hubspot.control.get("habits")["habits"]
    assert len(habits) >= 15
    for habit in habits:
        assert habit["source"]
        assert habit["on"] or "UNVERIFIED" in habit["source"]


# ---- properties


def test_an_account_property_is_made_used_changed_and_archived(hubspot: HubSpotClient) -> None:
    sizes = [{"label": "S", "value": "s"}, {"label": "L", "value": "l"}]
    wanted = {**TEXT, "name": "size", "type": "enumeration", "fieldType": "select", "options": sizes}
    made = hubspot.post(PROPERTIES, wanted, 201)
    assert made["modificationMetadata"]["readOnlyValue"] is False
    assert "hubspotDefined" not in made
    id = hubspot.contact(email="a@example.com", size="s")
    hubspot.advance(10)
    by_size = {"filterGroups": [{"filters": [{"propertyName": "size", "operator": "EQ", "value": "s"}]}]}
    assert hubspot.search(**by_size)["total"] == 1
    assert hubspot.call("PATCH", f"{CONTACTS}/{id}", {"properties": {"size": "m"}}).status_code == 400
    more = [*sizes, {"label": "M", "value": "m"}]
    assert hubspot.call("PATCH", f"{PROPERTIES}/size", {"options": more}).status_code == 200
    assert hubspot.call("PATCH", f"{CONTACTS}/{id}", {"properties": {"size": "m"}}).status_code == 200
    assert hubspot.call("DELETE", f"{PROPERTIES}/size").status_code == 204
    assert hubspot.call("PATCH", f"{CONTACTS}/{id}", {"properties": {"size": "s"}}).status_code == 400
    assert [p["name"] for p in hubspot.get(PROPERTIES, archived="true")["results"]] == ["size"]
    fresh(hubspot)
    assert hubspot.call("GET", f"{PROPERTIES}/size").status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Upper"},
        {"name": "1st"},
        {"type": "json"},
        {"fieldType": "date"},
        {"groupName": "nowhere"},
        {"type": "enumeration", "fieldType": "select"},
        {"type": "bool", "fieldType": "booleancheckbox"},
        {"options": [{"label": "A", "value": "a"}]},
        {"label": ""},
        {"colour": "red"},
        {"type": "date", "fieldType": "date", "hasUniqueValue": True},
    ],
)
def test_a_property_the_vendor_does_not_take_is_refused(hubspot: HubSpotClient, change: dict[str, Any]) -> None:
    hubspot.post(PROPERTIES, {**TEXT, "name": "x", **change}, 400)
    assert len(hubspot.violations()) == 1


def test_at_most_ten_properties_are_unique_and_names_are_taken_once(hubspot: HubSpotClient) -> None:
    for n in range(10):
        hubspot.post(PROPERTIES, {**TEXT, "name": f"key{n}", "hasUniqueValue": True}, 201)
    hubspot.post(PROPERTIES, {**TEXT, "name": "key10", "hasUniqueValue": True}, 400)
    hubspot.post(PROPERTIES, {**TEXT, "name": "key0"}, 409)
    assert hubspot.call("PATCH", f"{PROPERTIES}/email", {"label": "Mail"}).status_code == 400


def test_an_upsert_by_a_unique_property_of_the_account(hubspot: HubSpotClient) -> None:
    hubspot.post(PROPERTIES, {**TEXT, "name": "lead_id", "hasUniqueValue": True}, 201)
    path = "/crm/objects/2026-09/contacts/batch/upsert"
    inputs = [{"id": key, "idProperty": "lead_id", "properties": {"firstname": key}} for key in ("00Q1", "00Q2")]
    assert [row["new"] for row in hubspot.post(path, {"inputs": inputs})["results"]] == [True, True]
    again = hubspot.post(path, {"inputs": [{**inputs[0], "properties": {"firstname": "New"}}]})["results"]
    assert [(row["new"], row["properties"]["firstname"]) for row in again] == [(False, "New")]
    read = {"inputs": [{"id": "00Q2"}], "idProperty": "lead_id", "properties": ["firstname"]}
    assert hubspot.post(f"{CONTACTS}/batch/read", read)["results"][0]["properties"]["firstname"] == "00Q2"


def test_properties_are_read_and_made_in_batches(hubspot: HubSpotClient) -> None:
    inputs = [{**TEXT, "name": "a1"}, {**TEXT, "name": "a2"}]
    assert len(hubspot.post(f"{PROPERTIES}/batch/create", {"inputs": inputs}, 201)["results"]) == 2
    names = [{"name": "a1"}, {"name": "email"}, {"name": "zzz"}]
    answer = hubspot.post(f"{PROPERTIES}/batch/read", {"inputs": names}, 207)
    assert [definition["name"] for definition in answer["results"]] == ["a1", "email"]
    assert answer["errors"][0]["context"]["name"] == ["zzz"]
    assert {"contactinformation"} == {group["name"] for group in hubspot.get(f"{PROPERTIES}/groups")["results"]}
