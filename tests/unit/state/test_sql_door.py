"""`sync-platform sql`: what it shows, and everything it must not reach."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pyarrow.parquet as pq
import pytest

from sync_platform.errors import AccessError, ConfigError
from sync_platform.home import Home
from sync_platform.staging import door
from sync_platform.staging.export import json_text
from sync_platform.staging.lake import Lake
from sync_platform.state import server
from sync_platform.state.database import Database, open_state

TECHNICAL = "_key VARCHAR, _hash UBIGINT, _seq BIGINT, _deleted BOOLEAN, _cursor BIGINT, _read_at BIGINT"


@pytest.fixture(scope="module")
def lake(state: Database) -> Iterator[Lake]:
    """A lake with two leads, one of them deleted, a landing table, and a few records of the platform."""
    made = Lake(state)
    with made.connect() as con:
        con.execute("CREATE SCHEMA lake.crm")
        con.execute(f'CREATE TABLE lake.crm."Lead" (Id VARCHAR, Email VARCHAR, Amount DECIMAL(38,9), {TECHNICAL})')
        con.execute("INSERT INTO lake.crm.Lead VALUES ('1', 'a@x.example', 1.5, '1', 1, 1, false, 1, 1)")
        con.execute("INSERT INTO lake.crm.Lead VALUES ('2', 'b@x.example', 2.5, '2', 1, 1, true, 1, 1)")
        con.execute("CREATE TABLE lake.crm.landing (Id VARCHAR)")
        con.execute("CREATE SCHEMA lake._outcomes")
        con.execute(
            "CREATE TABLE lake._outcomes.big AS SELECT now() AS time, '1' AS source_key, 't1' AS target_id, "
            "'update' AS op, 'applied' AS status, NULL::VARCHAR AS reason, 'r' AS run_id, "
            "'00000000-0000-0000-0000-000000000001' AS plan_id, 'p' AS part, 'old' AS \"old:name\", "
            '\'new\' AS "new:name", 1 AS "old:same", 1 AS "new:same"'
        )
    with state.connection() as connection:
        connection.execute(
            "INSERT INTO sync.outcomes (sync, source_key, target_id, op, status, fields) "
            """VALUES ('small', '1', 't1', 'create', 'applied', '{"name": [null, "x"]}')"""
        )
        connection.execute("INSERT INTO sync.tokens (connection, secret) VALUES ('crm', 'very-secret')")
    yield made
    made.close()
    with state.connection() as connection:
        connection.execute("DELETE FROM sync.tokens")


@pytest.fixture(scope="module")
def locked(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """The connection behind the door, without the statement check in front of it."""
    with door.open_door(lake) as con:
        yield con


def rows(locked: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, object]]:
    door.refuse_unless_one_select(query)
    return list(locked.execute(query).to_arrow_table().to_pylist())


def passwords(lake: Lake) -> list[str]:
    return [str(urlsplit(url).password) for url in (lake.db.url, lake.db.reader_url)]


# What it shows


def test_a_stream_is_read_by_the_vendors_names_in_any_case(locked: duckdb.DuckDBPyConnection) -> None:
    assert rows(locked, "SELECT Email FROM staging.crm.Lead") == [{"Email": "a@x.example"}]
    assert rows(locked, "select EMAIL from STAGING.CRM.lead") == [{"Email": "a@x.example"}]


def test_only_the_vendors_columns_of_the_rows_that_exist_are_shown(locked: duckdb.DuckDBPyConnection) -> None:
    assert rows(locked, "SELECT * FROM staging.crm.Lead") == [
        {"Id": "1", "Email": "a@x.example", "Amount": Decimal("1.500000000")}
    ]


def test_landing_tables_are_no_streams(locked: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.CatalogException, match="landing"):
        rows(locked, "SELECT * FROM staging.crm.landing")


def test_staging_joins_what_the_platform_did(locked: duckdb.DuckDBPyConnection) -> None:
    query = """
        WITH mine AS (SELECT * FROM sync.outcomes WHERE sync IN ('small', 'big'))
        SELECT l.Email, o.sync, o.op, o.fields->>'$.name[1]' AS name
        FROM staging.crm.Lead l JOIN mine o ON o.source_key = l.Id ORDER BY o.sync"""
    assert rows(locked, query) == [
        {"Email": "a@x.example", "sync": "big", "op": "update", "name": "new"},
        {"Email": "a@x.example", "sync": "small", "op": "create", "name": "x"},
    ]


def test_a_bulk_outcome_shows_only_the_fields_that_changed(locked: duckdb.DuckDBPyConnection) -> None:
    [row] = rows(locked, "SELECT fields, lane, plan_id FROM sync.outcomes WHERE sync = 'big'")
    assert json.loads(str(row["fields"])) == {"name": ["old", "new"]}
    assert row["lane"] == "batch"


@pytest.mark.parametrize("name", door.RECORDS)
def test_every_documented_view_answers(locked: duckdb.DuckDBPyConnection, name: str) -> None:
    assert locked.execute(f"SELECT count(*) FROM sync.{name}").fetchone() is not None


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1",
        "-- a comment\nSELECT 1;",
        "FROM staging.crm.Lead",
        "VALUES (1), (2)",
        "EXPLAIN SELECT * FROM sync.links",
        "/* why */ EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN (FORMAT json) SELECT 1",
        "DESCRIBE staging.crm.Lead",
        "SHOW ALL TABLES",
        "SUMMARIZE staging.crm.Lead",
        "SELECT * FROM range(3) JOIN unnest([1, 2]) ON true",
        "SELECT * FROM information_schema.tables",
        "SELECT count(*) FROM lake.crm.Lead",
        "WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM b",
    ],
)
def test_every_way_of_reading_is_allowed(locked: duckdb.DuckDBPyConnection, query: str) -> None:
    door.refuse_unless_one_select(query)
    locked.execute(query).fetchall()


def test_a_wrong_name_is_a_wrong_statement(lake: Lake) -> None:
    with pytest.raises(ConfigError) as caught:
        door.answer(lake.db, "SELECT Emial FROM staging.crm.Lead")
    assert "Emial" in str(caught.value)
    assert caught.value.exit_code == 2


# Exports


def test_json_keeps_every_digit_and_nests_documents(lake: Lake) -> None:
    text = json_text(
        door.answer(
            lake.db,
            "SELECT l.Amount, o.fields, [1, 2] AS list, 'NaN'::DOUBLE AS nan, o.id AS id, o.id AS id, 'é' AS é "
            "FROM staging.crm.Lead l JOIN sync.outcomes o ON o.sync = 'big'",
        )
    )
    assert b'"Amount":1.500000000' in text
    [row] = json.loads(text)
    assert row["fields"] == {"name": ["old", "new"]}
    assert row["list"] == [1, 2]
    assert row["nan"] is None
    assert row["é"] == "é"
    assert {"id", "id_2"} <= set(row)


def test_an_answer_goes_to_a_csv_json_or_parquet_file(lake: Lake, tmp_path: Path) -> None:
    home = lake.db.home
    query = "SELECT Id, Amount, {'a': [1]} AS nested, 'x,\"y' AS quoted, NULL::VARCHAR AS empty FROM staging.crm.Lead"
    for name in ("out.csv", "out.json", "out.parquet"):
        assert door.export_sql(home, query, tmp_path / name) == 1
    with (tmp_path / "out.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert row == {"Id": "1", "Amount": "1.500000000", "nested": '{"a":[1]}', "quoted": 'x,"y', "empty": ""}
    [written] = json.loads((tmp_path / "out.json").read_text())
    assert written["nested"] == {"a": [1]}
    assert pq.read_table(tmp_path / "out.parquet").column("Amount").to_pylist() == [Decimal("1.500000000")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.json", "out.parquet"]


def test_a_failed_export_leaves_the_old_file(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(ConfigError):
        door.export_sql(lake.db.home, "SELECT error('no') FROM staging.crm.Lead", tmp_path / "out.csv")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_an_ending_that_names_no_format_is_refused(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no format"):
        door.export_sql(lake.db.home, "SELECT 1", tmp_path / "out.xlsx")


def test_a_folder_that_is_not_there_is_named(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="No such file"):
        door.export_sql(lake.db.home, "SELECT 1", tmp_path / "nowhere" / "out.csv")


# The first wall: the statement

REFUSED = {
    "read_text": "SELECT * FROM read_text('/etc/passwd')",
    "read_blob": "SELECT * FROM read_blob('/etc/passwd')",
    "read_csv": "SELECT * FROM read_csv('/etc/passwd', header = false)",
    "read_parquet_of_the_lake": "SELECT * FROM read_parquet('{lake}/**/*.parquet')",
    "glob": "SELECT * FROM glob('/etc/*')",
    "a_file_as_a_table": "SELECT * FROM '/etc/passwd'",
    "a_url_as_a_table": "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
    "an_explained_file": "EXPLAIN ANALYZE SELECT * FROM read_text('/etc/passwd')",
    "a_file_in_a_subquery": "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "a_file_in_a_cte": "WITH x AS (FROM read_text('/etc/passwd')) SELECT * FROM x",
    "a_file_in_a_union": "SELECT 'a' UNION ALL SELECT content FROM read_text('/etc/passwd')",
    "query": "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "query_table": "SELECT * FROM query_table('duckdb_databases')",
    "postgres_query": "SELECT * FROM postgres_query('state', 'SELECT * FROM sync.tokens')",
    "postgres_scan": "SELECT * FROM postgres_scan('host=127.0.0.1', 'sync', 'tokens')",
    "the_state_itself": "SELECT * FROM state.sync_public.outcomes",
    "the_catalogs_database": "SELECT * FROM __ducklake_metadata_lake.sync.tokens",
    "duckdb_databases": "SELECT path FROM duckdb_databases()",
    "duckdb_databases_as_a_view": "SELECT path FROM duckdb_databases",
    "a_cte_that_hides_a_system_view": "WITH duckdb_databases AS (SELECT 1) SELECT * FROM duckdb_databases",
    "duckdb_secrets": "SELECT * FROM duckdb_secrets()",
    "pg_catalog": "SELECT * FROM pg_catalog.pg_database",
    "json_execute_serialized_sql": "SELECT * FROM json_execute_serialized_sql('x')",
    "json_serialize_plan": "SELECT json_serialize_plan('SELECT * FROM read_text(''/etc/passwd'')')",
    "getenv": "SELECT getenv('HOME')",
    "copy_to": "COPY (SELECT 1) TO '{lake}/mine.csv'",
    "copy_from": "COPY lake.crm.Lead FROM '/etc/passwd'",
    "export": "EXPORT DATABASE '{lake}/mine'",
    "attach": "ATTACH '/etc/passwd' AS x",
    "attach_postgres": "ATTACH 'host=127.0.0.1' AS x (TYPE postgres)",
    "detach": "DETACH state",
    "use": "USE lake",
    "set": "SET enable_external_access = true",
    "reset": "RESET lock_configuration",
    "pragma": "PRAGMA database_list",
    "call": "CALL pragma_version()",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "create": "CREATE TABLE memory.x AS SELECT 1",
    "create_secret": "CREATE SECRET s (TYPE postgres, HOST '127.0.0.1')",
    "insert": "INSERT INTO lake.crm.Lead (Id) VALUES ('3')",
    "update": "UPDATE lake.crm.Lead SET Id = '9'",
    "delete": "DELETE FROM lake.crm.Lead",
    "drop": "DROP TABLE lake.crm.Lead",
    "begin": "BEGIN",
    "execute": "EXECUTE anything",
    "two_statements": "SELECT 1; SELECT 2",
    "a_write_behind_a_read": "SELECT 1; DROP TABLE lake.crm.Lead",
    "nothing": "  ",
    "not_sql": "hello there",
}


@pytest.mark.parametrize("attack", sorted(REFUSED))
def test_the_statement_check_refuses(lake: Lake, attack: str) -> None:
    with pytest.raises(ConfigError) as caught:
        door.refuse_unless_one_select(REFUSED[attack].format(lake=lake.db.home.lake))
    assert caught.value.mend


def test_run_sql_checks_before_it_connects(home: Home) -> None:
    with pytest.raises(ConfigError, match="read_text"):
        door.run_sql(home, "SELECT * FROM read_text('/etc/passwd')")
    assert server.running_pid(home) is None


# The second wall: the locked connection, as if the first were not there

BEHIND = (
    "read_text",
    "read_blob",
    "read_csv",
    "glob",
    "a_file_as_a_table",
    "a_url_as_a_table",
    "query",
    "postgres_scan",
    "copy_from",
    "attach",
    "attach_postgres",
    "set",
    "reset",
    "install",
    "load",
    "insert",
    "update",
    "delete",
    "drop",
)


@pytest.mark.parametrize("attack", BEHIND)
def test_the_locked_connection_refuses(lake: Lake, locked: duckdb.DuckDBPyConnection, attack: str) -> None:
    with pytest.raises(duckdb.Error) as caught:
        locked.execute(REFUSED[attack].format(lake=lake.db.home.lake)).fetchall()
    for password in passwords(lake):
        assert password not in str(caught.value)


@pytest.mark.parametrize("setting", ["allowed_directories = ['/']", "python_enable_replacements = true", "threads = 1"])
def test_no_setting_can_be_changed(locked: duckdb.DuckDBPyConnection, setting: str) -> None:
    with pytest.raises(duckdb.Error, match="locked"):
        locked.execute(f"SET {setting}")


def test_a_variable_of_our_python_is_no_table(locked: duckdb.DuckDBPyConnection) -> None:
    import pyarrow as pa

    ours = pa.table({"x": [1]})
    with pytest.raises(duckdb.CatalogException):
        locked.execute("SELECT * FROM ours")
    assert ours.num_rows == 1


# The third wall: the role


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM sync.tokens",
        "SELECT * FROM sync.reader",
        "SELECT pg_read_file(''/etc/passwd'')",
        "SELECT pg_ls_dir(''/'')",
        "SELECT rolpassword FROM pg_authid",
        "SELECT lo_import(''/etc/passwd'')",
        "SELECT * FROM dagster.runs",
    ],
)
def test_the_readers_role_refuses_even_postgres_query(locked: duckdb.DuckDBPyConnection, query: str) -> None:
    with pytest.raises(duckdb.Error, match="permission denied"):
        locked.execute(f"SELECT * FROM postgres_query('state', '{query}')").fetchall()


def test_the_token_table_is_not_behind_any_attached_name(locked: duckdb.DuckDBPyConnection) -> None:
    for name in ("state.sync.tokens", "__ducklake_metadata_lake.sync.tokens"):
        with pytest.raises(duckdb.Error):
            locked.execute(f"SELECT * FROM {name}").fetchall()


def test_the_state_is_attached_without_its_connection_string(lake: Lake, locked: duckdb.DuckDBPyConnection) -> None:
    shown = str(locked.execute("SELECT * FROM duckdb_secrets()").fetchall())
    shown += str(locked.execute("SELECT path FROM duckdb_databases() WHERE database_name = 'state'").fetchall())
    for password in passwords(lake):
        assert password not in shown
    assert passwords(lake)[0] not in str(locked.execute("SELECT * FROM duckdb_databases()").fetchall())


# While others work, and when something is away


def test_it_answers_while_a_load_is_being_written(lake: Lake) -> None:
    with lake.connect() as writer:
        writer.begin()
        writer.execute("INSERT INTO lake.crm.Lead VALUES ('3', 'c@x.example', 3, '3', 1, 2, false, 1, 1)")
        assert door.answer(lake.db, "SELECT count(*) AS n FROM staging.crm.Lead").to_pylist() == [{"n": 1}]
        writer.rollback()


def test_an_unreachable_state_is_a_sentence_without_a_password(home: Home) -> None:
    server.ensure_running(home, fsync=False)
    database = open_state(home)
    reader = database.reader_url
    server.stop(home)
    try:
        with pytest.raises(AccessError) as caught:
            door.answer(database, "SELECT 1")
    finally:
        database.close()
    for url in (database.url, reader):
        assert str(urlsplit(url).password) not in str(caught.value)
    assert "postgresql://" not in str(caught.value)
    assert caught.value.exit_code == 3
