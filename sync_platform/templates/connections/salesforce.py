"""The Salesforce org of this project. Its secrets come from the environment or .env, never from here."""

from dagster import EnvVar

from sync_platform.connectors.salesforce import Salesforce

salesforce = Salesforce(
    base_url=EnvVar("SALESFORCE_BASE_URL"),
    client_id=EnvVar("SALESFORCE_CLIENT_ID"),
    client_secret=EnvVar("SALESFORCE_CLIENT_SECRET"),
)
