"""MySQL and MariaDB as source and target: any table or view, read and written as Arrow."""

from sync_platform.connectors.mysql.connector import MySQL

__all__ = ["MySQL"]
