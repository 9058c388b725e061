"""What the catalogue says about tables becomes what the platform knows about fields."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import psycopg
import pytest

from sync_platform.connectors.postgres import Postgres
from sync_platform.errors import ConfigError
from sync_platform.model import Field, Repeat

Connect = Callable[..., Postgres]


def test_fields_carry_the_flags_of_their_columns(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute("CREATE TYPE stage AS ENUM ('lead', 'customer')")
    sql.execute(
        """CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email varchar(40) NOT NULL UNIQUE,
           stage stage NOT NULL DEFAULT 'lead', net numeric(10,2),
           gross numeric GENERATED ALWAYS AS (net * 1.19) STORED)"""
    )
    sql.execute("COMMENT ON COLUMN t.email IS 'where to write'")
    fields = {f.name: Field.from_arrow(f) for f in postgres.discover("t")}
    assert fields["id"].readonly
    assert fields["gross"].readonly
    assert not fields["id"].required
    email = fields["email"]
    assert (email.required, email.unique, email.max_length, email.label) == (True, True, 40, "where to write")
    assert (fields["stage"].values, fields["stage"].required) == (("lead", "customer"), False)
    assert not fields["net"].required
    stream = postgres.stream("t")
    assert (stream.key, stream.natural_keys, stream.transactional) == (("id",), ("email",), True)
    assert (stream.repeat, stream.compare) == (Repeat.KEY, "links")


def test_the_cursor_is_the_usual_name_of_a_fitting_type_and_can_be_chosen(
    sql: psycopg.Connection, connect: Connect
) -> None:
    sql.execute("CREATE TABLE a (id int PRIMARY KEY, updated_at text, modified_at timestamptz, seq bigint)")
    sql.execute("CREATE TABLE b (id int PRIMARY KEY, updated_at timestamptz, changed_at timestamptz)")
    sql.execute("CREATE INDEX ON b (changed_at)")
    cursors = {name: connect().stream(name).cursor for name in ("a", "b")}
    assert {name: cursor and cursor.field for name, cursor in cursors.items()} == {
        "a": "modified_at",
        "b": "changed_at",
    }
    chosen = connect(tables={"a": {"cursor": "seq"}, "b": {"cursor": ""}})
    assert chosen.stream("a").cursor is not None
    assert chosen.stream("b").cursor is None
    with pytest.raises(ConfigError, match="the cursor updated_at is a text"):
        connect(tables={"a": {"cursor": "updated_at"}}).stream("a")


def test_a_unique_index_over_required_columns_is_a_key(sql: psycopg.Connection, postgres: Postgres) -> None:
    sql.execute("CREATE TABLE t (a int NOT NULL, b int NOT NULL, c int UNIQUE, d int NOT NULL)")
    sql.execute("CREATE UNIQUE INDEX ON t (d) WHERE a > 0")
    sql.execute("CREATE UNIQUE INDEX ON t (b, a)")
    assert postgres.stream("t").key == ("b", "a")


def test_names_with_schema_dots_and_quotes_are_found(sql: psycopg.Connection, connect: Connect) -> None:
    sql.execute("CREATE SCHEMA sales")
    sql.execute("CREATE TABLE sales.orders (id int PRIMARY KEY)")
    sql.execute('CREATE TABLE "odd.na""me" (id int PRIMARY KEY, "select" text)')
    assert connect().stream("sales.orders").key == ("id",)
    assert connect(schema="sales").stream("orders").key == ("id",)
    odd = connect().discover('odd.na"me')
    assert odd.names == ["id", "select"]
    (page,) = connect().read('odd.na"me')
    assert page.complete


@pytest.mark.parametrize(
    ("name", "mend"), [("custmers", "did you mean customers?"), ("orders", "did you mean sales.orders?")]
)
def test_an_unknown_table_names_the_nearest(sql: psycopg.Connection, postgres: Postgres, name: str, mend: str) -> None:
    sql.execute("CREATE SCHEMA sales")
    sql.execute("CREATE TABLE sales.orders (id int PRIMARY KEY)")
    sql.execute("CREATE TABLE customers (id int PRIMARY KEY)")
    with pytest.raises(ConfigError) as caught:
        postgres.stream(name)
    assert caught.value.mend == mend


def test_options_that_name_no_column_are_refused(sql: psycopg.Connection, connect: Connect) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, email text)")
    with pytest.raises(ConfigError, match="no column 'emial'") as caught:
        connect(tables={"t": {"key": ["emial"]}}).stream("t")
    assert caught.value.mend == "did you mean email?"
    with pytest.raises(ConfigError, match="tombstone column email"):
        connect(tables={"t": {"tombstone": "email"}}).stream("t")


def test_a_connector_without_its_variable_says_what_every_table_has_in_common() -> None:
    stream = Postgres(url=dg.EnvVar("NOWHERE_SET"), tables={"t": {"key": ["id"]}}).stream("t")
    assert (stream.key, stream.compare, stream.transactional) == (("id",), "links", True)
