"""Tokens at rest, and who renews them."""

from __future__ import annotations

import datetime as dt
import os
import signal
import stat
import time
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from sync_platform.connectors.connector import Token
from sync_platform.errors import AuthError, ConfigError
from sync_platform.home import Home
from sync_platform.state import vault
from sync_platform.state.database import Database, open_state
from sync_platform.state.vault import Keys, PostgresTokens
from tests.unit.state import processes

NOW = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)
TOKEN = Token(
    access="access-one",
    refresh="refresh-one",
    expires_at=NOW + dt.timedelta(hours=1),
    extra={"instance_url": "https://x.example"},
)
RENEW = """
from sync_platform.connectors.connector import Token
from sync_platform.state.database import open_state
from sync_platform.state.vault import PostgresTokens
tokens = PostgresTokens(open_state(), "crm")
print(tokens.refresh(tokens.load(), lambda old: Token(access=old.access + "+", refresh=old.refresh + "+")))
"""


@pytest.fixture
def tokens(fresh_state: Database) -> PostgresTokens:
    return PostgresTokens(fresh_state, "crm", clock=lambda: NOW)


def never(current: Token | None) -> Token:
    raise AssertionError("nobody should have renewed")


def test_a_token_comes_back_as_it_was_stored(tokens: PostgresTokens) -> None:
    assert tokens.load() is None
    tokens.store(TOKEN)
    assert tokens.load() == TOKEN
    tokens.forget()
    assert tokens.load() is None


def test_a_bare_token_comes_back_too(tokens: PostgresTokens) -> None:
    tokens.store(Token(access="only"))
    assert tokens.load() == Token(access="only")


def test_tokens_of_two_connections_are_two(fresh_state: Database, tokens: PostgresTokens) -> None:
    tokens.store(TOKEN)
    assert PostgresTokens(fresh_state, "shop").load() is None


def test_nothing_readable_is_stored(fresh_state: Database, tokens: PostgresTokens) -> None:
    tokens.store(TOKEN)
    with fresh_state.connection() as connection:
        row = connection.execute("SELECT secret FROM sync.tokens").fetchone()
    assert row is not None
    for secret in (b"access-one", b"refresh-one", b"x.example"):
        assert secret not in bytes(row[0])


def test_secrets_are_in_no_repr(tokens: PostgresTokens, fresh_state: Database) -> None:
    tokens.store(TOKEN)
    key = str(fresh_state.home.kept("secret.key")).strip()
    shown = repr(tokens) + repr(TOKEN) + repr(Keys.of(fresh_state.home)) + repr(vars(Keys.of(fresh_state.home)))
    for secret in ("access-one", "refresh-one", key):
        assert secret not in shown


def test_the_key_file_is_private(tokens: PostgresTokens, fresh_state: Database) -> None:
    tokens.store(TOKEN)
    assert stat.S_IMODE((fresh_state.home.root / "secret.key").stat().st_mode) == 0o600


def test_a_renewed_token_is_stored_with_its_rotated_refresh_token(tokens: PostgresTokens) -> None:
    tokens.store(TOKEN)
    seen: list[Token | None] = []

    def renew(current: Token | None) -> Token:
        seen.append(current)
        return Token(access="access-two", refresh="refresh-two")

    assert tokens.refresh(TOKEN, renew).access == "access-two"
    assert seen == [TOKEN]
    assert tokens.load() == Token(access="access-two", refresh="refresh-two")


def test_a_token_renewed_by_another_is_taken_over(tokens: PostgresTokens) -> None:
    tokens.store(Token(access="newer"))
    assert tokens.refresh(TOKEN, never) == Token(access="newer")
    assert tokens.refresh(None, never) == Token(access="newer")


def test_a_stored_token_that_has_expired_is_renewed(tokens: PostgresTokens) -> None:
    tokens.store(Token(access="old", expires_at=NOW))
    assert tokens.refresh(None, lambda current: Token(access="new")).access == "new"


def test_a_renewal_that_fails_keeps_what_was_stored(tokens: PostgresTokens) -> None:
    def refuse(current: Token | None) -> Token:
        raise AuthError("invalid_grant")

    tokens.store(TOKEN)
    with pytest.raises(AuthError, match="invalid_grant"):
        tokens.refresh(TOKEN, refuse)
    assert tokens.load() == TOKEN


def test_of_many_processes_one_renews_and_all_get_its_token(tokens: PostgresTokens, tmp_path: Path) -> None:
    tokens.store(TOKEN)
    log = tmp_path / "renewals"

    def renew(current: Token | None) -> Token:
        assert current is not None
        with log.open("a") as file:
            file.write(f"{os.getpid()} {current.refresh}\n")
        time.sleep(0.1)
        return Token(access=current.access + "+", refresh=str(current.refresh) + "+")

    renewed = processes.at_once(5, lambda _: tokens.refresh(TOKEN, renew))
    assert {token.access for token in renewed} == {"access-one+"}
    assert len(log.read_text().splitlines()) == 1
    assert log.read_text().endswith("refresh-one\n")


def test_a_process_killed_right_after_renewing_lost_no_refresh_token(
    fresh_state: Database, tokens: PostgresTokens
) -> None:
    tokens.store(TOKEN)
    worker = processes.start(RENEW, processes.of(fresh_state, SYNC_CRASH_AT="token_refreshed"))
    assert processes.finish(worker, code=-signal.SIGKILL) == ""
    assert tokens.refresh(TOKEN, never) == Token(access="access-one+", refresh="refresh-one+")


def test_a_new_key_takes_over_and_the_old_one_can_go(
    fresh_state: Database, tokens: PostgresTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.store(TOKEN)
    old, new = str(fresh_state.home.kept("secret.key")).strip(), Fernet.generate_key().decode()
    monkeypatch.setenv("SYNC_SECRET_KEY", f"{new}, {old}")
    assert PostgresTokens(fresh_state, "crm").load() == TOKEN
    assert vault.rotate(fresh_state) == 1
    monkeypatch.setenv("SYNC_SECRET_KEY", new)
    assert PostgresTokens(fresh_state, "crm").load() == TOKEN
    monkeypatch.setenv("SYNC_SECRET_KEY", old)
    with pytest.raises(AuthError, match="a key that is gone"):
        PostgresTokens(fresh_state, "crm").load()


def test_a_lost_key_says_which_login_is_needed(fresh_state: Database, tokens: PostgresTokens, tmp_path: Path) -> None:
    tokens.store(TOKEN)
    elsewhere = open_state(Home(tmp_path / "elsewhere"), url=fresh_state.url)
    try:
        with pytest.raises(AuthError, match="log crm in again"):
            PostgresTokens(elsewhere, "crm").load()
    finally:
        elsewhere.close()


def test_something_that_is_no_key_is_a_wrong_setting_and_is_not_repeated(
    tokens: PostgresTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_SECRET_KEY", "hunter2")
    with pytest.raises(ConfigError, match="SYNC_SECRET_KEY") as caught:
        tokens.store(TOKEN)
    assert "hunter2" not in str(caught.value)


def test_an_empty_list_of_keys_is_a_wrong_setting(tokens: PostgresTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_SECRET_KEY", " , ")
    with pytest.raises(ConfigError):
        tokens.store(TOKEN)


def test_processes_that_make_the_key_at_once_agree_on_it(home: Home) -> None:
    made = processes.at_once(4, lambda _: (repr(Keys.of(home)), home.kept("secret.key")))
    assert len(set(made)) == 1
    assert os.listdir(home.root).count("secret.key") == 1
