"""The lake's connections and what they say when something is wrong."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from sync_platform.errors import AccessError, ConfigError
from sync_platform.home import Home
from sync_platform.staging.lake import Lake
from sync_platform.staging.landing import pipeline_name
from sync_platform.state.database import Database, open_state
from tests.private_postgres import PrivateServer


def test_nothing_is_downloaded_and_the_extensions_come_from_the_wheels(fresh_state: Database) -> None:
    with Lake(fresh_state).connect() as con:
        loaded = con.execute(
            "SELECT extension_name FROM duckdb_extensions()"
            " WHERE loaded AND extension_name IN ('ducklake', 'postgres_scanner')"
        ).fetchall()
        settings = dict(
            con.execute("SELECT name, value FROM duckdb_settings() WHERE name LIKE 'auto%known_extensions'").fetchall()
        )
    assert len(loaded) == 2
    assert set(settings.values()) == {"false"}


def test_connections_share_tables_but_not_transactions(fresh_state: Database) -> None:
    lake = Lake(fresh_state)
    with lake.connect() as one, lake.connect() as two:
        one.execute("CREATE SCHEMA lake.crm")
        one.execute("CREATE TABLE lake.crm.t AS SELECT 1 AS x")
        one.execute("BEGIN")
        one.execute("INSERT INTO lake.crm.t VALUES (2)")
        assert two.execute("SELECT count(*) FROM lake.crm.t").fetchone() == (1,)
        one.execute("COMMIT")
        assert two.execute("SELECT count(*) FROM lake.crm.t").fetchone() == (2,)


def test_the_reader_reads_and_cannot_write(fresh_state: Database) -> None:
    lake = Lake(fresh_state)
    with lake.connect() as con:
        con.execute("CREATE SCHEMA lake.crm")
        con.execute("CREATE TABLE lake.crm.t AS SELECT 1 AS x FROM range(100)")
    with lake.reader() as con:
        assert con.execute("SELECT count(*) FROM lake.crm.t").fetchone() == (100,)
        with pytest.raises(duckdb.Error):
            con.execute("INSERT INTO lake.crm.t VALUES (2)")


def test_an_unreachable_state_is_told_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://bob:s3cr%40t@127.0.0.1:1/state"
    lake = Lake(Database(Home(tmp_path), url))
    with pytest.raises(AccessError, match=r"127\.0\.0\.1:1") as caught:
        lake.connect()
    assert "s3cr" not in str(caught.value)
    error = lake.translate(duckdb.IOException(f'Unable to connect to "{url}": password s3cr@t refused'))
    assert isinstance(error, AccessError)
    assert "s3cr" not in str(error)


def test_a_database_that_went_away_is_an_access_error_without_its_password(tmp_path: Path) -> None:
    with PrivateServer() as server:
        lake = Lake(open_state(Home(tmp_path / "home"), url=server.url()))
        with lake.connect() as con:
            con.execute("CREATE SCHEMA lake.crm")
            server.stop()
            with pytest.raises(AccessError) as caught, lake.errors():
                con.execute("CREATE SCHEMA lake.anything")
        assert server.password not in str(caught.value)
        lake.db.close()


def test_a_lake_at_another_place_is_refused(fresh_state: Database, tmp_path: Path) -> None:
    Lake(fresh_state).connect().close()
    moved = Database(Home(tmp_path / "elsewhere"), fresh_state.url)
    with pytest.raises(ConfigError, match="another place"):
        Lake(moved).connect()


def test_a_data_folder_that_cannot_be_made_is_told(fresh_state: Database, tmp_path: Path) -> None:
    database = Database(Home(tmp_path / "home"), fresh_state.url)
    database.home.lake.rmdir()
    database.home.lake.write_text("a file")
    with pytest.raises(AccessError, match="cannot be written"):
        Lake(database).connect()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("IO Error: Could not write file x: No space left on device", "full"),
        ("IO Error: Cannot open file x: Permission denied", "cannot be written"),
        ("IO Error: something else", "cannot be read or written"),
    ],
)
def test_a_full_or_forbidden_disk_is_told(fresh_state: Database, text: str, says: str) -> None:
    error = Lake(fresh_state).translate(duckdb.IOException(text))
    assert isinstance(error, AccessError)
    assert says in error.message
    assert error.mend


def test_pipelines_of_different_streams_have_different_names() -> None:
    names = [pipeline_name("pg", stream) for stream in ("a", "public.a", "public_a", "public/a", "x" * 80, "x" * 81)]
    assert len(set(names)) == len(names)
    assert pipeline_name("salesforce", "Lead") == "salesforce__Lead"
    assert all(len(name) <= 60 and "/" not in name and "." not in name for name in names)


def test_both_cores_are_used_only_as_long_as_is_said(fresh_state: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    lake = Lake(fresh_state)

    def threads() -> tuple[int, ...] | None:
        with lake.connect() as con:
            return con.execute("SELECT current_setting('threads')").fetchone()

    assert threads() == (1,)

    def fail() -> None:
        with lake.on_all_cores():
            assert threads() == (2,)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert threads() == (1,)
    lake.close()
