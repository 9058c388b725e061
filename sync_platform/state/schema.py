"""Brings the state's schema to the newest migration, and makes the role of `sync-platform sql`."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from sync_platform.errors import AccessError, AuthError, ConfigError
from sync_platform.state.migrations import HEAD

#: Two numbers nobody else in this database uses as an advisory lock.
_MIGRATING = (0x73796E63, 1)
_GRANTING = (0x73796E63, 2)
#: Roles belong to a whole server, so each state's database has a reader of its own: this and the database's number.
READER = "sync_reader"
#: After a restore into another server the row is there, but not the role.
_LOGIN = "SELECT r.role, r.password FROM sync.reader r JOIN pg_roles ON rolname = r.role"
_OLDEST = 14


def current_revision(connection: psycopg.Connection[Any]) -> str | None:
    """The migration this database is at, by one select; None for an empty database."""
    try:
        row = connection.execute("SELECT version_num FROM sync.alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        connection.rollback()
        return None
    return str(row[0]) if row else None


def migrate(connection: psycopg.Connection[Any]) -> bool:
    """Runs the migrations that are missing, one process at a time; whether there were any.

    `connection` is not in a transaction. Raises AuthError when its user may not make the schema and
    ConfigError when a newer release made it.
    """
    revision = current_revision(connection)
    connection.rollback()
    if revision == HEAD:
        return False
    if connection.info.server_version < _OLDEST * 10_000:
        raise AccessError(
            f"the state needs PostgreSQL {_OLDEST} or newer, but this is {connection.info.server_version // 10_000}",
            mend="upgrade that server, or unset SYNC_DATABASE_URL to use the embedded one",
        )
    connection.execute("SELECT pg_advisory_lock(%s, %s)", _MIGRATING)
    connection.commit()
    try:
        if current_revision(connection) == HEAD:
            return False
        connection.execute("CREATE SCHEMA IF NOT EXISTS sync")
        connection.commit()
        upgrade(connection, "head")
    except psycopg.errors.InsufficientPrivilege as error:
        connection.rollback()
        raise AuthError(
            f"the state's database user may not make the schema: {error.diag.message_primary}",
            mend="grant it CREATE on the database of SYNC_DATABASE_URL",
        ) from None
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.rollback()
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", _MIGRATING)
            connection.commit()
    return True


def upgrade(connection: psycopg.Connection[Any], revision: str) -> None:
    """Runs alembic up to a revision on this connection, which stays open; ConfigError for a newer release's state."""
    import alembic.command
    import alembic.config
    import alembic.util
    import sqlalchemy
    from sqlalchemy.pool import StaticPool

    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool)
    with engine.connect() as handed:
        config.attributes["connection"] = handed
        try:
            alembic.command.upgrade(config, revision)
            handed.commit()
        except sqlalchemy.exc.DBAPIError as error:
            if isinstance(error.orig, psycopg.Error):
                raise error.orig from None
            raise
        except alembic.util.CommandError as error:
            raise ConfigError(
                f"the state was made by a newer release than this one: {error}", mend="upgrade sync-platform"
            ) from None


def reader_login(connection: psycopg.Connection[Any]) -> tuple[str, str]:
    """Name and password of the role that reads the public views and the lake's catalog, and nothing else.

    Made when missing. `connection` is not in a transaction. Raises AuthError when this user may not
    make roles.
    """
    found = connection.execute(_LOGIN).fetchone()
    connection.commit()
    if found is not None:
        return str(found[0]), str(found[1])
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", _GRANTING)
            found = connection.execute(_LOGIN).fetchone()
            return (str(found[0]), str(found[1])) if found else _make_reader(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise AuthError(
            f"the state's database user may not make the role of `sync-platform sql`: {error.diag.message_primary}",
            mend="grant it CREATEROLE; everything but `sql` works without",
        ) from None


def _make_reader(connection: psycopg.Connection[Any]) -> tuple[str, str]:
    row = connection.execute(
        "SELECT oid::bigint, current_database() FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None  # the database we are connected to exists
    oid, database = row
    login, password = f"{READER}_{oid}", secrets.token_urlsafe(32)
    connection.execute(f"""
        DO $$ BEGIN CREATE ROLE {login} LOGIN CONNECTION LIMIT 40;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$""")
    names = {"login": sql.Identifier(login), "database": sql.Identifier(database)}
    for statement in (
        sql.SQL("ALTER ROLE {login} PASSWORD {password}").format(password=sql.Literal(password), **names),
        sql.SQL("GRANT CONNECT ON DATABASE {database} TO {login}").format(**names),
        sql.SQL("ALTER ROLE {login} IN DATABASE {database} SET default_transaction_read_only = on").format(**names),
        sql.SQL("ALTER ROLE {login} IN DATABASE {database} SET statement_timeout = '10min'").format(**names),
    ):
        connection.execute(statement)
    connection.execute(f"GRANT USAGE ON SCHEMA sync_public, lake TO {login}")
    for schema in ("sync_public", "lake"):
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {login}")
        connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {login}")
    connection.execute("DELETE FROM sync.reader")
    connection.execute("INSERT INTO sync.reader (role, password) VALUES (%s, %s)", (login, password))
    return login, password
