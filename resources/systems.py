"""The accounts this project talks to. Secrets come from the environment or .env, never from here."""

from dagster import EnvVar

from sync_platform.connectors.hubspot import HubSpot
from sync_platform.connectors.salesforce import Salesforce

salesforce = Salesforce(
    base_url=EnvVar("SALESFORCE_BASE_URL"),
    client_id=EnvVar("SALESFORCE_CLIENT_ID"),
    client_secret=EnvVar("SALESFORCE_CLIENT_SECRET"),
    webhook_secret=EnvVar("SALESFORCE_WEBHOOK_SECRET"),  # optional, as all that has a default
)
hubspot = HubSpot(
    base_url=EnvVar("HUBSPOT_BASE_URL"),
    access_token=EnvVar("HUBSPOT_ACCESS_TOKEN"),
    client_secret=EnvVar("HUBSPOT_CLIENT_SECRET"),  # optional: proves webhooks
)
