"""The state's database: opening, pooling, and what happens when PostgreSQL says no."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from sync_platform.errors import AccessError, AuthError, ConfigError, TransientError
from sync_platform.home import Home
from sync_platform.state import server
from sync_platform.state.database import Database, normal_url, open_state, url_of

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


def login(database: Database, name: str, *, create: str = "") -> str:
    """A role that may connect to this database, and its URL."""
    with database.session() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pw' {create}")
        admin.execute(f"GRANT CONNECT ON DATABASE {database.url.rsplit('/', 1)[1]} TO {name}")
    return url_of({**conninfo_to_dict(database.url), "user": name, "password": "pw"})


def test_one_home_has_one_state_per_process(state: Database) -> None:
    assert open_state(state.home) is state


def test_what_a_block_wrote_is_there_after_it(fresh_state: Database) -> None:
    with fresh_state.connection() as connection:
        connection.execute("INSERT INTO sync.runs (run_id, sync) VALUES ('r', 's')")
    with fresh_state.connection() as connection:
        assert connection.execute("SELECT count(*) FROM sync.runs").fetchone() == (1,)


def test_a_block_that_raises_leaves_nothing(fresh_state: Database) -> None:
    def stop_halfway() -> None:
        with fresh_state.connection() as connection:
            connection.execute("INSERT INTO sync.runs (run_id, sync) VALUES ('r', 's')")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        stop_halfway()
    with fresh_state.connection() as connection:
        assert connection.execute("SELECT count(*) FROM sync.runs").fetchone() == (0,)


def test_connections_are_used_again(state: Database) -> None:
    with state.connection() as connection:
        first = connection.info.backend_pid
    with state.connection() as connection:
        assert connection.info.backend_pid == first


def test_a_connection_that_broke_while_idle_is_not_handed_out(state: Database) -> None:
    with state.connection() as connection:
        pid = connection.info.backend_pid
    with state.session() as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with state.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_forked_child_does_not_touch_its_parents_connections(state: Database) -> None:
    with state.connection() as connection:
        first = connection.info.backend_pid
    child = os.fork()
    if child == 0:
        with state.connection() as connection:
            os._exit(0 if connection.info.backend_pid != first else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with state.connection() as connection:
        assert connection.info.backend_pid == first
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_statement_commits_by_itself(fresh_state: Database) -> None:
    row = fresh_state.statement(
        "INSERT INTO sync.runs (run_id, sync) VALUES (%(run)s, 's') RETURNING run_id", {"run": "r"}
    )
    assert row == ("r",)
    with fresh_state.connection() as connection:
        assert connection.execute("SELECT count(*) FROM sync.runs").fetchone() == (1,)


def test_an_unreachable_database_is_a_sentence_without_the_password(home: Home) -> None:
    with pytest.raises(AccessError) as caught:
        open_state(home, url="postgresql://me:hush-hush@127.0.0.1:1/state")
    assert "127.0.0.1:1/state" in str(caught.value)
    assert "hush-hush" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert caught.value.__cause__ is None


def test_a_wrong_password_asks_for_credentials(state: Database, home: Home) -> None:
    with pytest.raises(AuthError, match="refused the login") as caught:
        open_state(home, url=url_of({**conninfo_to_dict(state.url), "password": "hush-hush"}))
    assert "hush-hush" not in str(caught.value)


def test_a_database_that_does_not_exist_is_named(state: Database, home: Home) -> None:
    with pytest.raises(AccessError, match='database "nowhere" does not exist'):
        open_state(home, url=url_of({**conninfo_to_dict(state.url), "dbname": "nowhere"}))


@pytest.mark.parametrize("text", ["mysql://me:hush@h/db", "hush", "postgresql://me:hush@h:port/db?x=%zz", "hush=hush"])
def test_an_unreadable_url_is_a_wrong_setting_and_is_not_repeated(home: Home, text: str) -> None:
    with pytest.raises(ConfigError, match="SYNC_DATABASE_URL") as caught:
        open_state(home, url=text)
    assert "hush" not in str(caught.value) + str(caught.value.to_json())


def test_sync_database_url_is_used(fresh_state: Database, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_DATABASE_URL", fresh_state.url.replace("postgresql://", "postgres://"))
    own = open_state(home)
    try:
        assert own.url == fresh_state.url
        assert server.running_pid(home) is None
    finally:
        own.close()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("postgres://u@h/d", "postgresql://u@h/d"),
        ("postgresql+psycopg2://u:p@h:5/d", "postgresql://u:p@h:5/d"),
        ("host=/run/pg dbname=d user=u", "postgresql://u@/d?host=%2Frun%2Fpg"),
        ("postgresql://u@[::1]:5432/d?sslmode=require", "postgresql://u@[::1]:5432/d?sslmode=require"),
        ("postgresql://a:1,b:2/d", "postgresql:///d?host=a%2Cb&port=1%2C2"),
    ],
)
def test_every_form_of_a_libpq_url_is_understood(text: str, wanted: str) -> None:
    assert normal_url(text) == wanted
    assert conninfo_to_dict(normal_url(text)) == conninfo_to_dict(wanted)


@settings(max_examples=50, deadline=None)
@given(TEXT, TEXT, TEXT)
def test_any_password_survives_the_url(user: str, password: str, database: str) -> None:
    parts = {"user": user, "password": password, "dbname": database, "host": "h", "port": "5432"}
    assert conninfo_to_dict(url_of(parts)) == parts


def test_the_password_is_in_no_repr(state: Database) -> None:
    password = str(conninfo_to_dict(state.url)["password"])
    assert password not in repr(state) + str(state) + state.shown
    assert str(state.home.root) in repr(state)


def test_a_lock_that_is_not_to_be_had_is_a_passing_trouble(fresh_state: Database) -> None:
    with fresh_state.connection() as holder:
        holder.execute("LOCK sync.runs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TransientError), fresh_state.connection() as other:
            other.execute("SET LOCAL lock_timeout = '20ms'; SELECT * FROM sync.runs")


def test_a_broken_constraint_stays_the_callers(fresh_state: Database) -> None:
    with fresh_state.connection() as connection:
        connection.execute("INSERT INTO sync.runs (run_id, sync) VALUES ('r', 's')")
    with pytest.raises(psycopg.errors.UniqueViolation), fresh_state.connection() as connection:
        connection.execute("INSERT INTO sync.runs (run_id, sync) VALUES ('r', 's')")


def use_while_it_is_killed(database: Database) -> None:
    pid = server.running_pid(database.home)
    assert pid is not None
    with database.connection() as connection:
        psutil.Process(pid).kill()
        for _ in range(10_000):  # its children see that it died, and end too
            connection.execute("SELECT pg_sleep(0.005)")


def test_a_server_killed_under_us_is_an_access_error_and_the_next_use_works(home: Home) -> None:
    server.ensure_running(home, fsync=False)
    database = open_state(home)
    try:
        with pytest.raises(AccessError, match="sync-platform up"):
            use_while_it_is_killed(database)
        server.ensure_running(home, fsync=False)
        with database.connection() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        server.stop(home)
        with pytest.raises(AccessError), database.connection():
            pass
        home.keep("postgres.json", str(home.kept("postgres.json")).replace('"port"', '"port": null, "was"'))
        moved = server.ensure_running(home, fsync=False)
        with database.connection() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert database.url == moved
    finally:
        database.close()


def test_the_reader_sees_the_documented_views_and_the_lake(fresh_state: Database) -> None:
    with fresh_state.connection() as connection:
        connection.execute("INSERT INTO sync.outcomes (sync, op, status) VALUES ('s', 'create', 'applied')")
        connection.execute("CREATE TABLE lake.made_before AS SELECT 1 AS x")
    url = fresh_state.reader_url
    with fresh_state.connection() as connection:
        connection.execute("CREATE TABLE lake.made_later AS SELECT 2 AS x")
    with psycopg.connect(url) as reader:
        for view in ("outcomes", "reports", "links", "dead_letters"):
            assert reader.execute(f"SELECT count(*) FROM sync_public.{view}").fetchone() == (int(view == "outcomes"),)
        assert reader.execute("SELECT x FROM lake.made_before").fetchone() == (1,)
        assert reader.execute("SELECT x FROM lake.made_later").fetchone() == (2,)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM sync.tokens",
        "SELECT * FROM sync.reader",
        "SELECT * FROM sync.outcomes",
        "SELECT nextval('sync.seq')",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY sync_public.outcomes TO PROGRAM 'cat'",
        "CREATE TABLE lake.mine (x int)",
        "CREATE TEMP TABLE mine (x int)",
        "SET SESSION AUTHORIZATION sync_owner",
        "SELECT rolpassword FROM pg_authid",
        "SELECT sync.take('a', 'b', 1, 0, 0, 0, 0)",
        "DELETE FROM sync_public.dead_letters",
    ],
)
def test_the_reader_may_do_nothing_else(state: Database, query: str) -> None:
    with psycopg.connect(state.reader_url, autocommit=True) as reader:
        reader.execute("SET default_transaction_read_only = off")  # a default is no wall
        with pytest.raises(psycopg.Error) as caught:
            reader.execute(query)  # type: ignore[arg-type]
    assert caught.value.sqlstate == "42501"


def test_the_reader_of_one_database_cannot_enter_another(state: Database, fresh_state: Database) -> None:
    other = url_of({**conninfo_to_dict(fresh_state.reader_url), "dbname": "sync"})
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(other)
    assert state.reader_url != fresh_state.reader_url


def test_the_readers_login_stays_the_same(fresh_state: Database, tmp_path: Path) -> None:
    first = fresh_state.reader_url
    again = open_state(Home(tmp_path / "elsewhere"), url=fresh_state.url)
    try:
        assert again.reader_url == first
    finally:
        again.close()


def test_a_user_who_may_not_make_roles_loses_only_the_sql_command(fresh_state: Database, home: Home) -> None:
    url = login(fresh_state, f"plain_{os.getpid()}")
    name = fresh_state.url.rsplit("/", 1)[1]
    with fresh_state.session() as admin:
        admin.execute(
            "DROP SCHEMA sync_public CASCADE; DROP SCHEMA sync CASCADE; DROP SCHEMA lake; DROP SCHEMA dagster"
        )
        admin.execute(f"GRANT CREATE ON DATABASE {name} TO plain_{os.getpid()}")
    own = open_state(home, url=url)
    try:
        with own.connection() as connection:
            connection.execute("INSERT INTO sync.runs (run_id, sync) VALUES ('r', 's')")
        with pytest.raises(AuthError, match="sync-platform sql") as caught:
            _ = own.reader_url
        assert "CREATEROLE" in str(caught.value)
    finally:
        own.close()
        with fresh_state.session() as admin:
            admin.execute(f"DROP OWNED BY plain_{os.getpid()} CASCADE; DROP ROLE plain_{os.getpid()}")


def test_an_ordinary_user_who_may_make_roles_has_everything(fresh_state: Database, home: Home) -> None:
    name = f"ordinary_{os.getpid()}"
    url = login(fresh_state, name, create="CREATEROLE")
    with fresh_state.session() as admin:
        admin.execute(
            "DROP SCHEMA sync_public CASCADE; DROP SCHEMA sync CASCADE; DROP SCHEMA lake; DROP SCHEMA dagster"
        )
        admin.execute(f"ALTER DATABASE {fresh_state.url.rsplit('/', 1)[1]} OWNER TO {name}")
    own = open_state(home, url=url)
    try:
        with own.connection() as connection:
            connection.execute("CREATE TABLE lake.made_here AS SELECT 1 AS x")
        with psycopg.connect(own.reader_url) as reader:
            assert reader.execute("SELECT count(*) FROM sync_public.outcomes").fetchone() == (0,)
            assert reader.execute("SELECT x FROM lake.made_here").fetchone() == (1,)
    finally:
        own.close()
        with fresh_state.session() as admin:
            admin.execute(f"REASSIGN OWNED BY {name} TO sync_owner; DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_user_who_may_not_make_the_schema_is_told_what_to_grant(fresh_state: Database, home: Home) -> None:
    name = f"powerless_{os.getpid()}"
    url = login(fresh_state, name)
    with fresh_state.session() as admin:
        admin.execute("DROP SCHEMA sync CASCADE; DROP SCHEMA sync_public CASCADE")
    try:
        with pytest.raises(AuthError, match="grant it CREATE"):
            open_state(home, url=url)
    finally:
        with fresh_state.session() as admin:
            admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
