"""Who may ask a Salesforce organization, how often, and which version answers."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from salesforce_client import START, SalesforceClient


def test_client_credentials_give_a_token_whose_instance_url_carries_the_prefix(org: SalesforceClient) -> None:
    body = org.oauth("client_credentials").json()
    assert body["instance_url"] == org.base
    assert body["id"].startswith(org.base + "/id/00D")
    assert (body["token_type"], "expires_in" in body, "refresh_token" in body) == ("Bearer", False, False)
    info = org.session.get(f"{org.base}/services/oauth2/userinfo", headers={"Authorization": f"Bearer {org.token}"})
    assert info.json()["organization_id"] == "00DSB0000000001MAA"


@pytest.mark.parametrize(
    ("grant", "form", "error"),
    [
        ("client_credentials", {"client_secret": "wrong"}, "invalid_client"),
        ("client_credentials", {"client_id": "wrong"}, "invalid_client_id"),
        ("refresh_token", {"refresh_token": "wrong"}, "invalid_grant"),
        ("authorization_code", {"code": "wrong", "redirect_uri": "http://127.0.0.1/cb"}, "invalid_grant"),
        ("password", {"username": "a", "password": "b"}, "unsupported_grant_type"),
        ("urn:ietf:params:oauth:grant-type:jwt-bearer", {"assertion": "a.b.c"}, "invalid_grant"),
    ],
)
def test_a_wrong_credential_is_a_400_with_the_vendors_error(
    org: SalesforceClient, grant: str, form: dict[str, str], error: str
) -> None:
    answer = org.oauth(grant, **form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert org.violations() == []


def test_a_refresh_token_stays_unless_the_app_rotates_it(org: SalesforceClient) -> None:
    first = org.env["SALESFORCE_REFRESH_TOKEN"]
    assert "refresh_token" not in org.oauth("refresh_token", refresh_token=first).json()
    org.habit("refresh_rotation", on=True)
    second = org.oauth("refresh_token", refresh_token=first).json()["refresh_token"]
    assert org.oauth("refresh_token", refresh_token=first).json()["error"] == "invalid_grant"
    assert org.oauth("refresh_token", refresh_token=second).status_code == 200


def test_the_code_flow_checks_the_pkce_verifier(org: SalesforceClient) -> None:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"verifier").digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code", "client_id": org.env["SALESFORCE_CLIENT_ID"], "redirect_uri": "http://127.0.0.1/cb",
        "code_challenge": challenge, "state": "s",
    }  # fmt: skip

    def code() -> str:
        answer = org.session.get(f"{org.base}/services/oauth2/authorize", params=query, allow_redirects=False)
        assert answer.status_code == 302
        return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]

    wrong = org.oauth("authorization_code", code=code(), redirect_uri="http://127.0.0.1/cb", code_verifier="other")
    assert wrong.json()["error"] == "invalid_grant"
    right = org.oauth("authorization_code", code=code(), redirect_uri="http://127.0.0.1/cb", code_verifier="verifier")
    assert right.json()["refresh_token"]


def test_a_jwt_assertion_with_the_right_claims_gives_a_token(org: SalesforceClient) -> None:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()

    claims = {"iss": org.env["SALESFORCE_CLIENT_ID"], "sub": "me", "aud": org.base, "exp": START + 120}
    grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    good = org.oauth(grant, assertion=f"{part({'alg': 'RS256'})}.{part(claims)}.c2ln")
    assert "refresh_token" not in good.json()
    assert good.status_code == 200
    late = org.oauth(grant, assertion=f"{part({'alg': 'RS256'})}.{part({**claims, 'exp': START - 1})}.c2ln")
    assert late.json()["error"] == "invalid_grant"


def test_a_session_ends_after_two_hours_without_use_of_the_sandbox_clock(org: SalesforceClient) -> None:
    org.advance(7000)
    org.get("limits")
    org.advance(7000)
    org.get("limits")
    org.advance(7200)
    assert org.refused(org.call("GET", "limits")) == (401, "INVALID_SESSION_ID")
    assert org.violations() == []


def test_revoked_and_unknown_tokens_are_refused(org: SalesforceClient) -> None:
    assert org.session.post(f"{org.base}/services/oauth2/revoke", data={"token": org.token}).status_code == 200
    assert org.refused(org.call("GET", "limits")) == (401, "INVALID_SESSION_ID")


def test_versions_are_listed_without_a_token_and_retired_ones_are_gone(org: SalesforceClient) -> None:
    versions = org.session.get(f"{org.base}/services/data/").json()
    assert (versions[0]["version"], versions[-1]["version"]) == ("31.0", "68.0")
    assert versions[-1]["url"] == "/salesforce/services/data/v68.0"
    labels = {v["version"]: v["label"] for v in versions}
    assert (labels["32.0"], labels["66.0"], labels["68.0"]) == ("Winter '15", "Spring '26", "Winter '27")
    for version, status in (("v30.0", 410), ("v69.0", 404), ("v60", 404), ("v31.0", 200)):
        org.version = version
        assert org.call("GET", "limits").status_code == status


def test_the_daily_limit_is_a_403_and_the_gauge_wobbles(org: SalesforceClient) -> None:
    org.habit("daily_requests", value=60)
    shown = [org.call("GET", "limits").headers["Sforce-Limit-Info"] for _ in range(60)]
    assert shown[0] == "api-usage=1/60"
    gauges = [int(text.partition("=")[2].partition("/")[0]) for text in shown]
    assert gauges != sorted(gauges)
    assert org.refused(org.call("GET", "limits")) == (403, "REQUEST_LIMIT_EXCEEDED")
    org.advance(86_401)
    org.login()
    assert org.get("limits")["DailyApiRequests"] == {"Max": 60, "Remaining": 59}
    assert org.violations() == []


def test_describe_shows_the_flags_a_mapping_is_checked_against(org: SalesforceClient) -> None:
    assert [o["name"] for o in org.get("sobjects")["sobjects"]] == [
        "Lead", "Contact", "Account", "Opportunity", "User", "Campaign",
    ]  # fmt: skip
    fields = {f["name"]: f for f in org.get("sobjects/lead/describe")["fields"]}
    assert (fields["LastName"]["nillable"], fields["LastName"]["length"]) == (False, 80)
    assert (fields["Ext__c"]["externalId"], fields["Ext__c"]["unique"], fields["Ext__c"]["idLookup"]) == (True,) * 3
    assert (fields["Email"]["idLookup"], fields["Email"]["unique"]) == (True, False)
    assert fields["SystemModstamp"]["updateable"] is False
    assert [v["value"] for v in fields["Region__c"]["picklistValues"]] == ["EMEA", "AMER", "APAC"]
    assert fields["Region__c"]["restrictedPicklist"]
    assert fields["Is_Hot__c"]["calculated"]
    assert fields["Status"]["defaultedOnCreate"]


def test_a_field_hidden_by_field_level_security_is_not_there(org: SalesforceClient) -> None:
    org.habit("hidden_fields", on=True, value=["Lead.Phone"])
    assert "Phone" not in {f["name"] for f in org.get("sobjects/Lead/describe")["fields"]}
    assert org.refusal("SELECT Phone FROM Lead") == (400, "INVALID_FIELD")
    answer = org.call("POST", "sobjects/Lead", {"LastName": "a", "Company": "b", "Phone": "1"})
    assert org.refused(answer) == (400, "INVALID_FIELD")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "tooling/query", 501),
        ("GET", "search", 501),
        ("POST", "composite/tree/Lead", 501),
        ("GET", "nope", 404),
        ("GET", "sobjects/Nope/describe", 404),
        ("PUT", "sobjects/Lead", 405),
        ("POST", "limits", 405),
    ],
)
def test_what_is_not_there_or_not_built_is_listed(org: SalesforceClient, method: str, path: str, status: int) -> None:
    assert org.call(method, path, {} if method != "GET" else None).status_code == status
    assert len(org.violations()) == 1


def test_a_uri_over_sixteen_kilobytes_is_refused(org: SalesforceClient) -> None:
    assert org.call("GET", "query", params={"q": "SELECT Id FROM Lead" + " " * 17_000}).status_code == 414
