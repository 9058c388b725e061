"""What a HubSpot account says about itself: fields, scopes, limits, credentials."""

from __future__ import annotations

import pytest
from hubspot_portal import TOKEN, Portal, Reply, Request, error

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.errors import AuthError, ConfigError
from sync_platform.model import Field, Position


def test_fields_carry_what_the_properties_api_says(hubspot: HubSpot) -> None:
    schema = hubspot.discover("contacts")
    fields = {one.name: Field.from_arrow(one) for one in schema}
    assert fields["id"].readonly
    assert fields["email"].folded
    assert fields["email"].unique
    assert fields["ext_id"].unique
    assert not fields["firstname"].unique
    assert fields["lifecyclestage"].values == ("lead", "customer")
    assert {name for name in fields if fields[name].readonly} >= {"hs_score", "createdate", "lastmodifieddate"}
    assert fields["firstname"].label == "First Name"
    assert str(schema.field("lastmodifieddate").type) == "timestamp[us, tz=UTC]"
    assert {str(schema.field(name).type) for name in ("age", "createdate", "lifecyclestage")} == {"string"}
    assert schema.field("age").metadata[b"vendor_type"] == b"number"


def test_a_property_nobody_has_is_named_with_the_nearest_one(hubspot: HubSpot) -> None:
    with pytest.raises(ConfigError) as refused:
        list(hubspot.read("contacts", fields=["firstnam"]))
    assert refused.value.mend == "did you mean firstname?"


def test_missing_scopes_are_named(portal: Portal, hubspot: HubSpot) -> None:
    details = [{"message": "scopes", "context": {"requiredGranularScopes": ["crm.objects.contacts.read"]}}]
    portal.script = lambda request: error(403, "This app hasn't been granted", "MISSING_SCOPES", errors=details)
    with pytest.raises(AuthError, match=r"crm\.objects\.contacts\.read"):
        list(hubspot.read("contacts"))


def test_a_position_of_another_connector_is_refused(hubspot: HubSpot) -> None:
    with pytest.raises(ConfigError):
        list(hubspot.read("contacts", Position({"modstamp": "2026-01-01"})))


def test_dated_versions_put_the_version_behind_the_apis_name(portal: Portal) -> None:
    dated = HubSpot(base_url=portal.url, access_token=TOKEN, path_version="2026-03")
    portal.script = lambda request: Reply(200, {"results": []})
    list(dated.read("contacts"))
    assert {each.path for each in portal.requests} == {
        "/crm/properties/2026-03/contacts",
        "/crm/objects/2026-03/contacts",
    }


def test_limits_are_learned_from_the_answers(portal: Portal) -> None:
    connector = HubSpot(base_url=portal.url, access_token=TOKEN)
    list(connector.read("contacts"))
    assert connector.quota.peek("general").rate == pytest.approx(0.97 * (190 - 3 + 1) / 10)  # type: ignore[attr-defined]
    assert connector.quota.peek("search").rate == pytest.approx(0.97 * 5)  # type: ignore[attr-defined]


def test_secrets_show_nowhere(portal: Portal) -> None:
    connector = HubSpot(
        base_url=portal.url, access_token=TOKEN, client_secret="hidden-secret", refresh_token="hidden-refresh"
    )
    portal.script = lambda request: error(401, f"token {TOKEN} is expired", "EXPIRED_AUTHENTICATION")
    with pytest.raises(AuthError) as refused:
        list(connector.read("contacts"))
    for text in (repr(connector), str(connector), str(refused.value), repr(connector.http)):
        assert "secret" not in text.replace("client_secret", "")
        assert "hidden" not in text


def test_without_credentials_nothing_is_sent(portal: Portal) -> None:
    with pytest.raises(ConfigError) as refused:
        list(HubSpot(base_url=portal.url).read("contacts"))
    assert refused.value.field == "access_token"
    assert portal.requests == []


def test_an_expired_oauth_token_is_renewed_once_and_the_read_goes_on(portal: Portal) -> None:
    connector = HubSpot(base_url=portal.url, client_id="id", client_secret="app-secret", refresh_token="refresh")
    for _ in range(150):
        portal.add()
    tokens = iter(["first", TOKEN, "never"])

    def account(request: Request) -> Reply | None:
        if request.path == "/oauth/v3/token":
            return Reply(200, {"access_token": next(tokens), "refresh_token": "rotated", "expires_in": 1800})
        if request.headers["authorization"] == "Bearer first" and request.query.get("after") is None:
            return portal._route(request)
        return None

    portal.script = account
    assert sum(page.table.num_rows for page in connector.read("contacts")) == 150
    assert next(tokens) == "never"
    assert "refresh_token=rotated" in portal.sent("/oauth")[1].body


def test_check_names_the_account_and_gets_by_without_its_details(portal: Portal, hubspot: HubSpot) -> None:
    portal.script = lambda r: Reply(200, {"portalId": 62515}) if "account-info" in r.path else None
    assert (hubspot.check().ok, hubspot.check().account) == (True, "62515")
    portal.script = lambda r: error(404, "unknown") if "account-info" in r.path else None
    assert hubspot.check().ok
    portal.script = lambda r: error(401, "no", "INVALID_AUTHENTICATION")
    with pytest.raises(AuthError):
        hubspot.check()
