"""PostgreSQL as source and target: any table or view, read and written as Arrow."""

from sync_platform.connectors.postgres.connector import Postgres

__all__ = ["Postgres"]
