"""The schema of the state: made once, by whoever comes first, and append-only where it is proof."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from sync_platform.errors import ConfigError
from sync_platform.home import Home
from sync_platform.state import migrations, schema
from sync_platform.state.database import Database, open_state
from tests.unit.state import processes

OPEN = """
from sync_platform.state.database import open_state
input()
with open_state().connection() as connection:
    print(connection.execute("SELECT count(*) FROM sync.outcomes").fetchone()[0])
"""
WANTED = {
    "identities": "source_connection source_object source_key target_connection target_object target_id merged_into "
    "created_at",
    "links": "sync source_key target_id base version_cursor version_read_at updated_at base_source base_target",
    "conflicts": "id sync source_key target_id field reason base source target state take found_at resolved_at "
    "settled_at",
    "merged_records": "connection object loser survivor found_at",
    "pairs": "sync source_connection source_object target_connection target_object",
    "members": "sync source_key dedupe_key",
    "claims": "target_connection target_object target_key owner lease_until",
    "intents": "token sync plan_id run_id source_key op target_connection target_object target_id match fields "
    "created_at",
    "plans": "plan_id sync digest config_hash compare positions_from positions_to evaluated_at state reason summary "
    "created_at expires_at run_id",
    "positions": "sync positions evaluated_at config_hash run_id updated_at",
    "outcomes": "id time sync run_id plan_id lane source_key target_id op status fields reason resolution request_id "
    "side",
    "audit_batches": "id sync run_id first_outcome last_outcome salt root previous created_at",
    "dead_letters": "id sync source_key kind field reason resolution reasons payload attempts state source_hash "
    "config_hash first_at last_at",
    "held": "sync source_key kind reason detail since",
    "runs": "run_id sync pid host started_at finished_at state",
    "reports": "run_id sync lane finished_at report",
    "loads": "load_id connection stream started_at finished_at rows_read rows_changed rows_deleted seq_to complete "
    "state reading",
    "match_plans": "sync source_connection source_object target_connection target_object run_id applied_at",
    "match_decisions": "sync source_key target_id decision class score evidence run_id decided_at",
    "captures": "connection position streams owner state reason told_at committed_at stored behind_bytes limit_bytes "
    "warn_bytes host pid updated_at",
    "owed_reads": "connection stream since reason emptied",
    "installation": "id",
    "tokens": "connection secret updated_at",
    "quota": "account bucket tat rate burst blocked_until learned_at waiting_until",
}


def raw(state: Database) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(state.url)


@pytest.mark.parametrize("table", sorted(WANTED))
def test_a_table_has_the_documented_columns(state: Database, table: str) -> None:
    with state.connection() as connection:
        rows = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'sync' AND table_name = %s "
            "ORDER BY ordinal_position",
            (table,),
        ).fetchall()
    assert " ".join(str(row[0]) for row in rows) == WANTED[table]


def test_every_time_knows_its_zone(state: Database) -> None:
    with state.connection() as connection:
        naive = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'sync' "
            "AND data_type LIKE '%without time zone'"
        ).fetchall()
    assert naive == []


def test_migrating_again_changes_nothing(fresh_state: Database) -> None:
    with raw(fresh_state) as connection:
        assert schema.migrate(connection) is False
        assert schema.current_revision(connection) == migrations.HEAD


def test_processes_that_open_an_empty_database_at_once_migrate_it_once(state: Database, tmp_path: Path) -> None:
    with state.session() as admin:
        admin.execute("CREATE DATABASE at_once")
    url = state.url.rsplit("/", 1)[0] + "/at_once"
    env = processes.environment(SYNC_HOME=str(tmp_path / "home"), SYNC_DATABASE_URL=url)
    try:
        openers = [processes.start(OPEN, env) for _ in range(4)]
        for opener in openers:
            assert opener.stdin is not None
            opener.stdin.write("\n")
            opener.stdin.flush()
        assert [processes.finish(opener) for opener in openers] == ["0"] * 4
    finally:
        with state.session() as admin:
            admin.execute("DROP DATABASE at_once WITH (FORCE)")


def test_the_head_we_compare_with_is_alembics() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


def test_a_state_of_a_newer_release_is_left_alone(fresh_state: Database, tmp_path: Path) -> None:
    with fresh_state.connection() as connection:
        connection.execute("UPDATE sync.alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="newer release") as caught:
        open_state(Home(tmp_path / "old-release"), url=fresh_state.url)
    assert "upgrade sync-platform" in str(caught.value)


@pytest.mark.parametrize("table", ["outcomes", "audit_batches"])
@pytest.mark.parametrize("how", ["UPDATE sync.{} SET sync = 'x'", "DELETE FROM sync.{}", "TRUNCATE sync.{}"])
def test_what_is_proof_cannot_be_rewritten(state: Database, table: str, how: str) -> None:
    with raw(state) as connection:
        connection.execute("SET session_replication_role = replica")  # which switches ordinary triggers off
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            connection.execute(how.format(table))  # type: ignore[arg-type]


def test_two_letters_of_one_record_never_wait_together(fresh_state: Database) -> None:
    add = "INSERT INTO sync.dead_letters (sync, source_key, kind, state) VALUES ('s', 'k', 'rejected', %s)"
    with fresh_state.connection() as connection:
        connection.execute(add, ("settled",))
        connection.execute(add, ("open",))
    with pytest.raises(psycopg.errors.UniqueViolation), fresh_state.connection() as connection:
        connection.execute(add, ("retry",))


def test_nobody_else_may_look_into_our_schemas(state: Database) -> None:
    with state.connection() as connection:
        open_to_all = connection.execute(
            "SELECT nspname FROM pg_namespace, aclexplode(nspacl) AS acl "
            "WHERE nspname IN ('sync', 'sync_public', 'lake', 'dagster') AND acl.grantee = 0"
        ).fetchall()
    assert open_to_all == []
