"""The accounts this project talks to. Secrets come from the environment or .env, never from here."""

from dagster import EnvVar

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.salesforce import Salesforce
from sync_platform.connectors.variables import OptionalEnvVar

salesforce = Salesforce(
    base_url=EnvVar("SALESFORCE_BASE_URL"),
    client_id=EnvVar("SALESFORCE_CLIENT_ID"),
    client_secret=EnvVar("SALESFORCE_CLIENT_SECRET"),
    webhook_secret=OptionalEnvVar("SALESFORCE_WEBHOOK_SECRET"),
    organization_id=OptionalEnvVar("SALESFORCE_ORGANIZATION_ID"),
)
hubspot = HubSpot(
    base_url=EnvVar("HUBSPOT_BASE_URL"),
    access_token=EnvVar("HUBSPOT_ACCESS_TOKEN"),
    client_secret=OptionalEnvVar("HUBSPOT_CLIENT_SECRET"),
)
