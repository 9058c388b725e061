"""The HubSpot account of this project. Its token comes from the environment or .env, never from here."""

from dagster import EnvVar

from sync_platform.connectors.hubspot import HubSpot

hubspot = HubSpot(base_url=EnvVar("HUBSPOT_BASE_URL"), access_token=EnvVar("HUBSPOT_ACCESS_TOKEN"))
