"""HubSpot CRM: contacts, companies, deals, tickets and custom objects."""

from __future__ import annotations

from sync_platform.connectors.hubspot.connector import HubSpot

__all__ = ["HubSpot"]
