"""The state's database: one PostgreSQL for everything an installation must remember."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final, LiteralString, TypeAlias
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sync_platform.errors import AccessError, AuthError, ConfigError, SyncError, TransientError
from sync_platform.home import Home
from sync_platform.state import schema, server

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

_VARIABLE: Final = "SYNC_DATABASE_URL"
_IDLE_KEPT: Final = 8


class Database:
    """The state of one installation. Obtain it by `open_state`; it is safe to share between threads."""

    def __init__(self, home: Home, url: str | None) -> None:
        self.home = home.create()
        self._held = contextlib.ExitStack()
        self._embedded = url is None
        if url is None:
            self._held.enter_context(server.in_use(home))
            url = server.ensure_running(home)
        self._url = url
        self._reader_url: str | None = None
        self._installation: str | None = None
        self._lock = threading.Lock()
        self._by_index = False
        self._idle: list[Connection] = []
        self._pid = os.getpid()
        self._parents: list[Connection] = []

    def __repr__(self) -> str:
        return f"Database(home={str(self.home.root)!r}, server={self.shown!r})"

    @property
    def url(self) -> str:
        """The libpq URL with its password: never print it."""
        return self._url

    @property
    def shown(self) -> str:
        """Where the database is, without credentials, for messages."""
        return _shown(self._url)

    @property
    def sqlalchemy_url(self) -> str:
        """The URL as Dagster's storage wants it (SQLAlchemy, psycopg2, schema `dagster`): never print it."""
        known = _parameters(self._url)
        options = f"{known.get('options') or ''} -csearch_path=dagster".strip()
        return url_of({**known, "options": options}, scheme="postgresql+psycopg2")

    @property
    def reader_url(self) -> str:
        """The URL of the role that may only read the views of `sync_public` and the lake's catalog.

        Raises AuthError when the role is missing and this database's user may not make it.
        """
        if self._reader_url is None:
            with self.session() as own:
                login, password = schema.reader_login(own)
            known = {name: value for name, value in _parameters(self._url).items() if name != "passfile"}
            self._reader_url = url_of({**known, "user": login, "password": password})
        return self._reader_url

    @property
    def installation(self) -> str:
        """What this installation is called where it leaves something at a source; no other is called so."""
        if self._installation is None:
            row = self.statement("SELECT id::text FROM sync.installation", {})
            self._installation = str(row[0]) if row else ""
        return self._installation

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """A pooled connection in a transaction: committed when the block ends, rolled back when it raises.

        PostgreSQL being away, full or forbidding is an AccessError (AuthError); a deadlock or a lock
        timeout is a TransientError; errors of the statement itself stay psycopg's.
        """
        with translated(self.shown):
            own = self._checkout()
            try:
                yield own
                own.commit()
            except BaseException:
                with contextlib.suppress(psycopg.Error):
                    own.rollback()
                raise
            finally:
                self._checkin(own)

    @contextlib.contextmanager
    def session(self, *, application_name: str | None = None) -> Iterator[Connection]:
        """A connection of its own, autocommitting, closed at the end of the block; errors as in `connection`."""
        with translated(self.shown), self.dedicated(application_name=application_name) as own:
            yield own

    @contextlib.contextmanager
    def dedicated(self, *, application_name: str | None = None) -> Iterator[Connection]:
        """As `session`, with every error left as psycopg's: for blocks that do other work meanwhile."""
        own = self._connect(application_name)
        try:
            own.autocommit = True
            yield own
        finally:
            own.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A pooled connection on which every statement commits by itself: reads without the trips of a transaction."""
        with translated(self.shown):
            own = self._checkout()
            try:
                own.autocommit = True
                yield own
                own.autocommit = False
            except BaseException:
                own.close()
                raise
            finally:
                self._checkin(own)

    def statement(self, query: LiteralString, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The first row of one statement that commits by itself: a single round trip on a pooled connection."""
        with self.reading() as own:
            row = own.execute(query, parameters).fetchone()
        return row

    def url_now(self) -> str:
        """As `url`, after a look whether the embedded server has been restarted on another port."""
        moved = server.running_url(self.home) if self._embedded else None
        if moved is not None and moved != self._url:
            self._url, self._reader_url = moved, None
        return self._url

    def by_index(self) -> None:
        """From now on connections look rows up by index wherever one fits, for a process whose statements ask for few.

        PostgreSQL decides by statistics: of a table that was empty when they were made it reads every row, and keeps
        that plan for as long as the connection lasts.
        """
        with self._lock:
            idle, self._idle, self._by_index = self._idle, [], True
        for own in idle:
            own.close()

    def close(self) -> None:
        """Closes the idle connections and lets go of the server; the next use opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for own in idle:
            own.close()
        self._held.close()
        _opened.pop((os.getpid(), self.home, None if self._embedded else self._url), None)

    def _checkout(self) -> Connection:
        with self._lock:
            if os.getpid() != self._pid:  # a forked child must not talk, nor say goodbye, on its parent's sockets
                self._parents, self._idle, self._pid = self._idle, [], os.getpid()
            while self._idle:
                own = self._idle.pop()
                if _usable(own):
                    return own
                own.close()
        return self._connect(None)

    def _checkin(self, own: Connection) -> None:
        with self._lock:
            if not own.closed and not own.broken and len(self._idle) < _IDLE_KEPT:
                self._idle.append(own)
                return
        own.close()

    def _connect(self, application_name: str | None) -> Connection:
        try:
            own = _dial(self._url, application_name)
        except psycopg.OperationalError:
            tried = self._url
            if self.url_now() == tried:
                raise
            own = _dial(self._url, application_name)
        if self._by_index:
            own.execute("SET enable_seqscan = off")
            own.commit()
        return own


_opened: dict[tuple[int, Home, str | None], Database] = {}
_opening = threading.Lock()


def open_state(home: Home | None = None, *, url: str | None = None) -> Database:
    """The state of a home (default: the current one), started and migrated; one object per process.

    `url`, else `SYNC_DATABASE_URL`, names a PostgreSQL of one's own; without both the embedded one
    is used. Raises ConfigError for an unreadable URL, AccessError when it cannot be reached.
    """
    home = home or Home.current()
    own = url or os.environ.get(_VARIABLE) or None
    key = (os.getpid(), home, normal_url(own) if own else None)
    with _opening:
        if key in _opened:
            return _opened[key]
        database = Database(home, key[2])
        with database.session() as first:
            first.autocommit = False
            schema.migrate(first)
        _opened[key] = database
        return database


def normal_url(text: str) -> str:
    """A libpq URL from a URL (also SQLAlchemy's) or from `host=… dbname=…`; ConfigError if it is neither."""
    scheme, separator, rest = text.strip().partition("://")
    try:
        if separator and scheme.split("+")[0] in ("postgres", "postgresql"):
            return url_of(conninfo_to_dict(f"postgresql://{rest}"))
        if not separator and "=" in text:
            return url_of(conninfo_to_dict(text))
    except psycopg.ProgrammingError:
        pass  # its message would repeat the text, password and all
    raise ConfigError(
        f"{_VARIABLE} is not a PostgreSQL URL",
        field=_VARIABLE,
        mend="write it as postgresql://user:password@host:5432/database",
    )


def url_of(parameters: Mapping[str, Any], *, scheme: str = "postgresql") -> str:
    """A URL from libpq's parameters. Sockets and lists of hosts go into its query."""
    left = {name: str(value) for name, value in parameters.items() if value is not None}
    user, password, database = left.pop("user", ""), left.pop("password", ""), left.pop("dbname", "")
    credentials = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    host, port = left.get("host", ""), left.get("port", "")
    place = ""
    if not any(mark in host + port for mark in "/,@"):
        place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        left.pop("host", None)
        left.pop("port", None)
    query = f"?{urlencode(left, quote_via=quote)}" if left else ""
    return f"{scheme}://{credentials}{'@' if credentials else ''}{place}/{quote(database, safe='')}{query}"


@contextlib.contextmanager
def translated(shown: str) -> Iterator[None]:
    """PostgreSQL's own troubles as errors of ours; a wrong statement or a broken constraint stays psycopg's."""
    try:
        yield
    except psycopg.Error as error:
        ours = _ours(error, shown)
        if ours is None:
            raise
        raise ours from None


_BUSY = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure)
#: A refused login carries no SQLSTATE on the client's side, only these words.
_LOGIN = ("authentication failed", "no password supplied", "no pg_hba.conf entry", "permission denied for database")


def _ours(error: psycopg.Error, shown: str) -> SyncError | None:
    said = (error.diag.message_primary or str(error)).strip()
    if isinstance(error, _BUSY):
        return TransientError(f"the state's PostgreSQL ({shown}) was busy: {said}", mend="run it again")
    if isinstance(error, psycopg.errors.QueryCanceled):
        return None
    if isinstance(error, psycopg.errors.DiskFull):
        return AccessError(f"the disk of the state's PostgreSQL ({shown}) is full: {said}", mend="free some space")
    if isinstance(error, psycopg.errors.InsufficientPrivilege) and "append-only" not in said:
        return AuthError(f"the state's PostgreSQL ({shown}) forbids it: {said}", mend="grant its user that right")
    if any(words in said for words in _LOGIN):
        return AuthError(f"the state's PostgreSQL ({shown}) refused the login: {said}", mend=f"check {_VARIABLE}")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return AccessError(
            f"the state's PostgreSQL ({shown}) cannot be used: {' '.join(said.split())}",
            mend=f"start it (`sync-platform up`), or check {_VARIABLE}",
        )
    return None


@functools.lru_cache(maxsize=64)
def _shown(url: str) -> str:
    known = _parameters(url)
    return f"{known.get('host', 'localhost')}:{known.get('port', '5432')}/{known.get('dbname', '')}"


def _parameters(url: str) -> dict[str, Any]:
    return dict(conninfo_to_dict(url))


def _dial(url: str, application_name: str | None) -> Connection:
    defaults = {"connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10"}
    known = _parameters(url)
    name = application_name or known.get("application_name") or f"sync-platform {os.getpid()}"
    return psycopg.connect(make_conninfo(**{**defaults, **known, "application_name": name}))


def _usable(own: Connection) -> bool:
    """Whether an idle connection is still good: a server that went away has left something to read."""
    if own.closed or own.broken:
        return False
    readable, _, _ = select.select([own.pgconn.socket], [], [], 0)
    return not readable
