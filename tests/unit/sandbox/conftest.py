"""The simulators as the tests reach them: started once a module, fresh for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hubspot_client import HubSpotClient, fresh, hubspot_client
from salesforce_client import SalesforceClient, renewed, salesforce
from webhook_receiver import Receiver, receiver


@pytest.fixture(scope="module")
def running() -> Iterator[HubSpotClient]:
    """A HubSpot account that the tests of a module share."""
    with hubspot_client() as client:
        yield client


@pytest.fixture
def hubspot(running: HubSpotClient) -> HubSpotClient:
    """The module's HubSpot account, emptied."""
    return fresh(running)


@pytest.fixture(scope="module")
def shared() -> Iterator[SalesforceClient]:
    """A Salesforce org that the tests of a module share."""
    with salesforce() as client:
        yield client


@pytest.fixture
def org(shared: SalesforceClient) -> Iterator[SalesforceClient]:
    """The module's Salesforce org, emptied."""
    with renewed(shared) as client:
        yield client


@pytest.fixture
def inbox() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with receiver() as server:
        yield server
