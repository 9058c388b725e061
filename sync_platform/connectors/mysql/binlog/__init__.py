"""The row binlog of MariaDB and MySQL as a feed of changed keys."""

from sync_platform.connectors.mysql.binlog.feed import BinlogFeed, follow
from sync_platform.connectors.mysql.binlog.problems import problems

__all__ = ["BinlogFeed", "follow", "problems"]
