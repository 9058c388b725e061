"""A Salesforce organization: REST and Bulk API 2.0, SOQL, OAuth, limits, and the habits that hurt."""

from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

__all__ = ["SalesforceSimulator"]
