"""Salesforce: any object of one org, by REST and Bulk API 2.0."""

from sync_platform.connectors.salesforce.account import Salesforce

__all__ = ["Salesforce"]
