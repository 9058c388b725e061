"""A MySQL or MariaDB database of this project. Its url comes from the environment or .env, never from here."""

from dagster import EnvVar

from sync_platform.connectors.mysql import MySQL

mysql = MySQL(url=EnvVar("MYSQL_URL"), timezone="UTC", capture=True)  # its log is followed: binlog_format = ROW
