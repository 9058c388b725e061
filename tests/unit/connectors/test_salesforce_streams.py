"""What a Salesforce connection says of an object before its variables are known: the location loads without secrets."""

from __future__ import annotations

import dagster as dg
import pytest

from sync_platform.components.sync import sync_definitions
from sync_platform.connectors.salesforce import Salesforce
from sync_platform.engine.spec import Endpoint, Expression, SyncSpec


def unconnected() -> Salesforce:
    return Salesforce(
        base_url=dg.EnvVar("NOBODY_SET_THIS"),
        client_id=dg.EnvVar("NOBODY_SET_THIS"),
        client_secret=dg.EnvVar("NOBODY_SET_THIS"),
    )


@pytest.mark.parametrize("name", ["Lead", "Account", "Invoice__c"])
def test_any_object_has_a_stream_before_the_connection_is_made(name: str) -> None:
    stream = unconnected().stream(name)
    assert (stream.name, stream.key, stream.compare) == (name, ("Id",), "target")


def test_a_sync_into_any_object_loads_without_a_secret() -> None:
    spec = SyncSpec(
        name="companies",
        source=Endpoint(connection="hubspot", object="companies"),
        target=Endpoint(connection="salesforce", object="Account"),
        mapping={"Name": Expression(sql="name")},
    )
    keys = {key.to_user_string() for asset in sync_definitions(spec).assets or () for key in asset.keys}  # type: ignore[union-attr]
    assert keys == {"companies/desired", "companies/plan", "companies/delivered"}
