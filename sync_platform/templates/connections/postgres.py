"""A PostgreSQL database of this project. Its url comes from the environment or .env, never from here."""

from dagster import EnvVar

from sync_platform.connectors.postgres import Postgres

postgres = Postgres(url=EnvVar("POSTGRES_URL"))
