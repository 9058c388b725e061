"""Tokens of all connections, encrypted in the state, renewed by one process at a time."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sync_platform.crash import crash_point
from sync_platform.errors import AuthError, ConfigError
from sync_platform.home import Home
from sync_platform.state.database import Connection, Database, translated
from sync_platform.state.locks import advisory_lock

if TYPE_CHECKING:
    from sync_platform.connectors.connector import Token

_FILE: Final = "secret.key"
_VARIABLE: Final = "SYNC_SECRET_KEY"
_UPSERT: Final = """
    INSERT INTO sync.tokens (connection, secret, updated_at) VALUES (%s, %s, now())
    ON CONFLICT (connection) DO UPDATE SET secret = excluded.secret, updated_at = excluded.updated_at"""


class Keys:
    """The keys tokens are encrypted with: the first one encrypts, all of them decrypt."""

    def __init__(self, keys: list[str]) -> None:
        from cryptography.fernet import Fernet, MultiFernet  # only those who have tokens wait for it

        self._keys = MultiFernet([Fernet(key) for key in keys])

    def __repr__(self) -> str:
        return "Keys(…)"

    @classmethod
    def of(cls, home: Home) -> Keys:
        """The keys of `SYNC_SECRET_KEY` (newest first, separated by commas), else of `secret.key` in the home.

        The file (one key a line, newest first, mode 0600) is made on first use.
        """
        from cryptography.fernet import Fernet

        given = os.environ.get(_VARIABLE)
        text = given or home.kept(_FILE) or home.keep_first(_FILE, Fernet.generate_key().decode() + "\n")
        try:
            keys = text.replace(",", " ").split()
            return cls(keys)
        except (ValueError, TypeError):
            raise ConfigError(
                f"{_VARIABLE if given else home.root / _FILE} holds something that is not a key",
                field=_VARIABLE if given else _FILE,
                mend="each key is 32 random bytes in URL-safe base64; make one with: python -c "
                '"from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"',
            ) from None

    def seal(self, text: str) -> bytes:
        """The text, encrypted with the newest key."""
        return self._keys.encrypt(text.encode())

    def unseal(self, secret: bytes, whose: str) -> str:
        """The text again; AuthError when none of the keys made it."""
        from cryptography.fernet import InvalidToken

        try:
            return self._keys.decrypt(secret).decode()
        except InvalidToken:
            raise AuthError(
                f"the stored token of {whose} was encrypted with a key that is gone",
                mend=f"restore {_FILE} (or {_VARIABLE}), or log {whose} in again",
            ) from None

    def reseal(self, secret: bytes) -> bytes:
        """The same secret under the newest key."""
        return self._keys.rotate(secret)


class PostgresTokens:
    """The `TokenStore` of one connection, shared by all processes of the installation."""

    def __init__(
        self,
        db: Database,
        connection: str,
        *,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._db = db
        self._connection = connection
        self._clock = clock
        self._keys: Keys | None = None

    def __repr__(self) -> str:
        return f"PostgresTokens({self._connection!r})"

    def load(self) -> Token | None:
        """The stored token, or None."""
        with self._db.connection() as own:
            return self._read(own)

    def store(self, token: Token) -> None:
        """Keeps the token of a fresh login; it is durable on return."""
        with advisory_lock(self._db, self._lock_name) as own:
            self._write(own, token)

    def forget(self) -> None:
        """Deletes the token."""
        with advisory_lock(self._db, self._lock_name) as own, translated(self._db.shown):
            own.execute("DELETE FROM sync.tokens WHERE connection = %s", (self._connection,))

    def refresh(self, stale: Token | None, renew: Callable[[Token | None], Token]) -> Token:
        """A token newer than `stale`: another process's if it was faster, else `renew(current)`'s.

        One caller at a time renews, across threads and processes; a rotated refresh token is durable
        before anyone uses what came with it.
        """
        with advisory_lock(self._db, self._lock_name) as own:
            current = self._read(own)
            if current is not None and self._newer(current, stale):
                return current
            fresh = renew(current)
            self._write(own, fresh)
            crash_point("token_refreshed")
            return fresh

    @property
    def _lock_name(self) -> str:
        return f"token:{self._connection}"

    def _newer(self, current: Token, stale: Token | None) -> bool:
        alive = current.expires_at is None or current.expires_at > self._clock()
        return alive and (stale is None or current.access != stale.access)

    def _sealing(self) -> Keys:
        if self._keys is None:
            self._keys = Keys.of(self._db.home)
        return self._keys

    def _read(self, own: Connection) -> Token | None:
        with translated(self._db.shown):
            row = own.execute("SELECT secret FROM sync.tokens WHERE connection = %s", (self._connection,)).fetchone()
        return _parsed(self._sealing().unseal(row[0], self._connection)) if row else None

    def _write(self, own: Connection, token: Token) -> None:
        with translated(self._db.shown):
            own.execute(_UPSERT, (self._connection, self._sealing().seal(_printed(token))))


def rotate(db: Database) -> int:
    """Encrypts every stored token again with the newest key; returns how many there were.

    Put the new key in front of the old ones first, and remove the old ones afterwards.
    """
    keys = Keys.of(db.home)
    with db.connection() as own:
        rows = own.execute("SELECT connection, secret FROM sync.tokens FOR UPDATE").fetchall()
        for connection, secret in rows:
            keys.unseal(secret, connection)
            own.execute("UPDATE sync.tokens SET secret = %s WHERE connection = %s", (keys.reseal(secret), connection))
    return len(rows)


def _printed(token: Token) -> str:
    return json.dumps(
        {
            "access": token.access,
            "refresh": token.refresh,
            "expires_at": token.expires_at.isoformat() if token.expires_at else None,
            "extra": dict(token.extra) if token.extra is not None else None,
        }
    )


def _parsed(text: str) -> Token:
    from sync_platform.connectors.connector import Token

    kept = json.loads(text)
    expires_at = dt.datetime.fromisoformat(kept["expires_at"]) if kept["expires_at"] else None
    return Token(access=kept["access"], refresh=kept["refresh"], expires_at=expires_at, extra=kept["extra"])
