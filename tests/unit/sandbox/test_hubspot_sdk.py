"""The vendor's own Python SDK (`hubspot-api-client`) with nothing changed but the host."""

from __future__ import annotations

from typing import Any

import pytest
from hubspot import HubSpot
from hubspot.crm.contacts import (
    ApiException,
    BatchInputSimplePublicObjectBatchInput,
    BatchInputSimplePublicObjectBatchInputForCreate,
    BatchInputSimplePublicObjectBatchInputUpsert,
    BatchInputSimplePublicObjectId,
    BatchReadInputSimplePublicObjectId,
    Filter,
    FilterGroup,
    PublicGdprDeleteInput,
    PublicMergeInput,
    PublicObjectSearchRequest,
    SimplePublicObjectBatchInput,
    SimplePublicObjectBatchInputForCreate,
    SimplePublicObjectBatchInputUpsert,
    SimplePublicObjectId,
    SimplePublicObjectInput,
    SimplePublicObjectInputForCreate,
)
from hubspot.crm.properties import OptionInput, PropertyCreate
from hubspot_client import HubSpotClient


@pytest.fixture
def sdk(hubspot: HubSpotClient) -> HubSpot:
    return HubSpot(access_token=hubspot.env["HUBSPOT_ACCESS_TOKEN"], host=hubspot.env["HUBSPOT_BASE_URL"])


def create(sdk: HubSpot, **properties: str) -> Any:
    return sdk.crm.contacts.basic_api.create(SimplePublicObjectInputForCreate(properties=properties))


def test_single_records_by_the_sdk(hubspot: HubSpotClient, sdk: HubSpot) -> None:
    api = sdk.crm.contacts.basic_api
    made = create(sdk, email="Ann@Example.com", firstname="Ann")
    assert made.properties["email"] == "ann@example.com"
    assert made.created_at.tzinfo is not None
    read = api.get_by_id("ann@example.com", id_property="email", properties=["firstname", "phone"])
    assert (read.id, read.properties["firstname"], read.properties["phone"]) == (made.id, "Ann", None)
    changed = api.update(made.id, SimplePublicObjectInput(properties={"firstname": "Eve"}))
    assert changed.properties["firstname"] == "Eve"
    other = create(sdk, email="bob@example.com")
    merged = api.merge(PublicMergeInput(primary_object_id=made.id, object_id_to_merge=other.id))
    assert merged.id not in (made.id, other.id)
    api.archive(merged.id)
    assert api.get_page().results == []
    assert [row.id for row in api.get_page(archived=True).results] == [merged.id]
    again = create(sdk, email="ann@example.com")
    api.purge(PublicGdprDeleteInput(object_id=again.id))
    assert api.get_page().results == []
    assert hubspot.violations() == []


def test_errors_reach_the_sdk_with_their_bodies(sdk: HubSpot) -> None:
    create(sdk, email="ann@example.com")
    with pytest.raises(ApiException) as taken:
        create(sdk, email="ann@example.com")
    assert taken.value.status == 409
    assert "Existing ID: " in taken.value.body
    with pytest.raises(ApiException) as missing:
        sdk.crm.contacts.basic_api.get_by_id("1")
    assert missing.value.status == 404


def test_all_records_by_the_sdks_own_pager(hubspot: HubSpotClient, sdk: HubSpot) -> None:
    wanted = {"system": "hubspot", "stream": "contacts", "count": 230, "options": {}}
    ids = hubspot.control.post("seed", wanted)["ids"]
    assert [row.id for row in sdk.crm.contacts.get_all(properties=["email"])] == ids
    assert hubspot.violations() == []


def test_batches_by_the_sdk(hubspot: HubSpotClient, sdk: HubSpot) -> None:
    api = sdk.crm.contacts.batch_api
    made = api.create(
        BatchInputSimplePublicObjectBatchInputForCreate(
            inputs=[
                SimplePublicObjectBatchInputForCreate(properties={"email": f"{n}@example.com"}, associations=[])
                for n in range(5)
            ]
        )
    )
    ids = {row.properties["email"]: row.id for row in made.results}
    assert sorted(ids) == [f"{n}@example.com" for n in range(5)]
    upserted = api.upsert(
        BatchInputSimplePublicObjectBatchInputUpsert(
            inputs=[
                SimplePublicObjectBatchInputUpsert(
                    id=email, id_property="email", object_write_trace_id=email, properties={"firstname": "X"}
                )
                for email in ("0@example.com", "9@example.com")
            ]
        )
    )
    assert {row.object_write_trace_id: row.new for row in upserted.results} == {
        "0@example.com": False,
        "9@example.com": True,
    }
    mixed = api.upsert(
        BatchInputSimplePublicObjectBatchInputUpsert(
            inputs=[
                SimplePublicObjectBatchInputUpsert(
                    id=email, id_property="email", object_write_trace_id=email, properties={"lifecyclestage": stage}
                )
                for email, stage in (("0@example.com", "lead"), ("1@example.com", "nope"))
            ]
        )
    )
    assert mixed.num_errors == 1
    assert mixed.errors[0].context["objectWriteTraceId"] == ["1@example.com"]
    api.update(
        BatchInputSimplePublicObjectBatchInput(
            inputs=[SimplePublicObjectBatchInput(id=ids["2@example.com"], properties={"firstname": "Two"})]
        )
    )
    read = api.read(
        BatchReadInputSimplePublicObjectId(
            properties=["firstname"],
            properties_with_history=[],
            inputs=[SimplePublicObjectId(id=ids["2@example.com"]), SimplePublicObjectId(id="1")],
        )
    )
    assert [row.properties["firstname"] for row in read.results] == ["Two"]
    assert read.errors[0].context["ids"] == ["1"]
    api.archive(BatchInputSimplePublicObjectId(inputs=[SimplePublicObjectId(id=id) for id in ids.values()]))
    assert len(sdk.crm.contacts.basic_api.get_page().results) == 1
    assert hubspot.violations() == []


def test_searches_by_the_sdk(hubspot: HubSpotClient, sdk: HubSpot) -> None:
    hubspot.control.post("seed", {"system": "hubspot", "stream": "contacts", "count": 50, "options": {}})
    hubspot.advance(60)
    newest = Filter(property_name="lastmodifieddate", operator="GTE", value="0")
    found = sdk.crm.contacts.search_api.do_search(
        PublicObjectSearchRequest(
            filter_groups=[FilterGroup(filters=[newest])],
            sorts=["-lastmodifieddate"],
            properties=["email"],
            limit=20,
            after="0",
        )
    )
    assert (found.total, len(found.results), found.paging.next.after) == (50, 20, "20")
    stamps = [row.updated_at for row in found.results]
    assert stamps == sorted(stamps, reverse=True)
    assert hubspot.violations() == []


def test_properties_by_the_sdk(hubspot: HubSpotClient, sdk: HubSpot) -> None:
    api = sdk.crm.properties.core_api
    stages = api.get_by_name("contacts", "lifecyclestage").options
    assert [option.value for option in stages][:3] == ["subscriber", "lead", "marketingqualifiedlead"]
    assert len(stages) == 8
    known = {definition.name: definition for definition in api.get_all("contacts").results}
    assert known["hs_object_id"].modification_metadata.read_only_value
    assert not known["email"].modification_metadata.read_only_value
    assert known["email"].has_unique_value
    api.create(
        "contacts",
        PropertyCreate(
            name="erp_id",
            label="ERP",
            type="string",
            field_type="text",
            group_name="contactinformation",
            has_unique_value=True,
        ),
    )
    api.create(
        "deals",
        PropertyCreate(
            name="colour", label="Colour", type="enumeration", field_type="select", group_name="dealinformation",
            options=[OptionInput(label="Red", value="red", hidden=False, display_order=0)],
        ),
    )  # fmt: skip
    create(sdk, email="a@example.com", erp_id="E-1")
    assert sdk.crm.contacts.basic_api.get_by_id("E-1", id_property="erp_id").properties["email"] == "a@example.com"
    with pytest.raises(ApiException) as taken:
        create(sdk, email="b@example.com", erp_id="E-1")
    assert taken.value.status == 409
    deal = sdk.crm.deals.basic_api.create(
        SimplePublicObjectInputForCreate(
            properties={"dealname": "D", "dealstage": "closedwon", "pipeline": "default", "colour": "red"}
        )
    )
    assert sdk.crm.deals.basic_api.get_by_id(deal.id, properties=["colour"]).properties["colour"] == "red"
    api.archive("contacts", "erp_id")
    assert "erp_id" not in {definition.name for definition in api.get_all("contacts").results}
    assert hubspot.violations() == []


def test_oauth_by_the_sdk(hubspot: HubSpotClient) -> None:
    env = hubspot.env
    anonymous = HubSpot(host=env["HUBSPOT_BASE_URL"])
    granted = anonymous.oauth.tokens_api.create(
        grant_type="refresh_token",
        refresh_token=env["HUBSPOT_REFRESH_TOKEN"],
        client_id=env["HUBSPOT_CLIENT_ID"],
        client_secret=env["HUBSPOT_CLIENT_SECRET"],
    )
    assert granted.expires_in == 1800
    assert len(granted.access_token) >= 300
    about = anonymous.oauth.access_tokens_api.get(granted.access_token)
    assert about.hub_id == int(env["HUBSPOT_PORTAL_ID"])
    assert "crm.objects.contacts.write" in about.scopes
    sdk = HubSpot(access_token=granted.access_token, host=env["HUBSPOT_BASE_URL"])
    assert sdk.crm.companies.basic_api.get_page().results == []
