"""A simulator of HubSpot's CRM API: objects, batches, search, properties, OAuth, limits and bad habits."""

from sync_platform.sandbox.hubspot.simulator import HubSpotSimulator

__all__ = ["HubSpotSimulator"]
