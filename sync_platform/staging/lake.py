"""The lake: an in-memory DuckDB with the DuckLake catalog of the installation attached.

The catalog (which files make up which table, in which snapshot) lives in the schema `lake` of the
state database, the Parquet files below `home.lake`. DuckLake's and PostgreSQL's extensions come
from wheels, so nothing is downloaded: https://ducklake.select/docs/stable/duckdb/usage/connecting
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import shutil
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from sync_platform.errors import AccessError, ConfigError, SyncError

if TYPE_CHECKING:
    import duckdb

    from sync_platform.home import Home
    from sync_platform.state.database import Database

CATALOG: Final = "lake"
EXTENSIONS: Final = ("ducklake", "postgres_scanner")

_UNREACHABLE: Final = (
    "Unable to connect to Postgres",
    "server closed the connection",
    "Connection refused",
    "terminating connection",
    "connection to server",
    "SSL connection has been closed",
    "no connection to the server",
)
_FULL: Final = ("No space left on device", "Disk quota exceeded", "File too large")
_ids = itertools.count()


class Lake:
    """The staging lake of one installation, as seen by this process.

    All connections of a Lake share one DuckDB instance (one memory limit, one set of threads) and
    are independent of each other otherwise: each has its own transaction and temporary tables.
    """

    def __init__(self, db: Database, *, memory_limit: str = "1GB", threads: int | None = None) -> None:
        self.db = db
        self._memory_limit = memory_limit
        self._threads = threads or _threads(os.cpu_count() or 1)
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._attached: tuple[int, str] | None = None  # process and URL the instance belongs to
        self._urls: set[str] = set()  # whose passwords must not show
        self._starting = threading.Lock()
        self.changing: Final = threading.RLock()
        """Held by a thread of this process while a transaction of its own makes or alters a table.

        When one commits, DuckLake 1.5.5 forgets the schema the others of its instance began with, and they write
        freed memory into the catalog (https://github.com/duckdb/ducklake/issues/1248, mended after that version).
        """

    @property
    def writers(self) -> int:
        """How many files of one chunk are worth writing at a time: two where DuckDB itself has one thread of two."""
        return 2 if self._threads == 1 and (os.cpu_count() or 1) > 1 else 1

    @contextlib.contextmanager
    def on_all_cores(self) -> Iterator[None]:
        """Meanwhile DuckDB works with two threads on two cores: for a sort, say, while no other server has work."""
        if self.writers == 1:
            yield
            return
        with self.connect() as con:
            con.execute(f"SET GLOBAL threads = {self.writers}")
            try:
                yield
            finally:
                con.execute(f"SET GLOBAL threads = {self._threads}")

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A connection with the catalog `lake` attached for reading and writing.

        The caller closes it (it is a context manager). Raises AccessError when PostgreSQL or the
        data directory cannot be reached, without the connection's password.
        """
        return self._current().cursor()

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own with the lake attached read-only, as the reader's role.

        It cannot write the lake and PostgreSQL shows it only what the reader's role may select.
        """
        self._current()  # creates an empty catalog where there is none
        url = self.db.reader_url
        self._urls.add(url)
        con = _blank(self.db.home, self._memory_limit, self._threads, None)
        with self.errors():
            _attach(con, url, self.db.home.lake, "READ_ONLY")
        return con

    def close(self) -> None:
        """Closes the DuckDB instance; connections handed out stop working."""
        with self._starting:
            if self._instance is not None:
                self._instance.close()
                self._instance = None

    def _current(self) -> duckdb.DuckDBPyConnection:
        """This process's instance, attached to where the database is now (a restart may move its port)."""
        with self._starting:
            wanted = (os.getpid(), self.db.url)
            if self._instance is None or self._attached != wanted:
                self._urls.add(self.db.url)
                self._instance, self._attached = self._open(), wanted
            return self._instance

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turns DuckDB's errors into the platform's, with connection strings and passwords cut out."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            raise self.translate(error) from None

    def translate(self, error: Exception) -> SyncError:
        """The platform's error for one of DuckDB's."""
        import duckdb

        text = self._masked(str(error)).strip()
        first = text.splitlines()[0] if text else type(error).__name__
        lake = self.db.home.lake
        if any(sign in text for sign in _FULL):
            return AccessError(f"the disk of {lake} is full: {first}", mend="free space and run again")
        if "Permission denied" in text or "Read-only file system" in text or "Cannot open file" in text:
            return AccessError(f"{lake} cannot be written: {first}", mend="give this user write access to it")
        if "does not match existing data path" in text:
            return ConfigError(
                f"the state database belongs to a lake at another place: {first}",
                mend="point SYNC_HOME to the directory this database was first used with",
            )
        if isinstance(error, duckdb.OutOfMemoryException):
            return AccessError(f"the lake needs more memory or spill space: {first}", mend="free memory or disk space")
        if any(sign in text for sign in _UNREACHABLE):
            return AccessError(
                f"the state database of the lake cannot be reached: {first}",
                mend="start it (`sync-platform up`) or check SYNC_DATABASE_URL",
            )
        if isinstance(error, duckdb.IOException):
            return AccessError(f"the lake cannot be read or written: {first}", mend="check the disk and PostgreSQL")
        return SyncError(f"the lake refused a statement: {text}")

    def _masked(self, text: str) -> str:
        for url in self._urls:
            dsn = _libpq(url)
            password = urlsplit(dsn).password or ""
            shown = urlsplit(dsn)
            text = text.replace(dsn, f"postgresql://{shown.hostname}:{shown.port or 5432}{shown.path}")
            for secret in {password, unquote(password)} - {""}:
                text = text.replace(secret, "***")
        return text

    def _open(self) -> duckdb.DuckDBPyConnection:
        home = self.db.home
        try:
            home.lake.mkdir(parents=True, exist_ok=True)
            probe = home.lake / f".probe-{os.getpid()}-{next(_ids)}"
            probe.write_bytes(b"lake")
            probe.unlink()
        except OSError as error:
            raise AccessError(
                f"{home.lake} cannot be written: {error.strerror}", mend="free space there or give this user access"
            ) from None
        spill = home.run / f"spill-{os.getpid()}-{next(_ids)}"
        con = _blank(home, self._memory_limit, self._threads, spill)
        weakref.finalize(self, shutil.rmtree, spill, ignore_errors=True)
        with self.errors(), self._first_attach():
            _attach(con, self.db.url, home.lake, "DATA_INLINING_ROW_LIMIT 0")
        return con

    @contextlib.contextmanager
    def _first_attach(self) -> Iterator[None]:
        """Creating the catalog is not safe among processes that start at once: one at a time."""
        with self.db.connection() as pg:
            found = pg.execute("SELECT to_regclass('lake.ducklake_metadata') IS NOT NULL").fetchone()
        if found and found[0]:
            yield
            return
        from sync_platform.state.locks import advisory_lock

        with advisory_lock(self.db, "lake/attach"):
            yield


def _threads(cores: int) -> int:
    """How many threads DuckDB works with; on two cores one.

    Whoever waits for a query looks for tasks without a pause while another thread has the last of them: with two
    threads that takes the core which the source, the target and the rows read ahead need at that moment.
    """
    return 1 if cores <= 2 else min(cores, 8)


def _blank(home: Home, memory_limit: str, threads: int, spill: Path | None) -> duckdb.DuckDBPyConnection:
    """A DuckDB instance that downloads nothing and loads only our extensions."""
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        # the extensions come from wheels whose hashes uv.lock pins; checking them again costs 0.4 s of CPU (ADR 6)
        "allow_unsigned_extensions": "true",
        "secret_directory": str(home.run / "duckdb-secrets"),  # not those a person keeps in ~/.duckdb
        "memory_limit": memory_limit,
        "threads": str(threads),
        "preserve_insertion_order": "false",
    }
    if spill is not None:
        config["temp_directory"] = str(spill)
    con = duckdb.connect(config=config)
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    for name in EXTENSIONS:
        con.execute(f"LOAD {literal(str(extension_file(name)))}")
    return con


def _attach(con: duckdb.DuckDBPyConnection, url: str, data: Path, *options: str) -> None:
    dsn = literal(f"ducklake:postgres:{_libpq(url)}")
    settings = [f"DATA_PATH {literal(str(data))}", f"METADATA_SCHEMA {literal(CATALOG)}", *options]
    con.execute(f"ATTACH {dsn} AS {CATALOG} ({', '.join(settings)})")


def _libpq(url: str) -> str:
    """A URL as libpq reads it: SQLAlchemy's driver suffix (`postgresql+psycopg2`) cut off."""
    scheme, sep, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{sep}{rest}"


def link(source: Path | str, target: Path) -> None:
    """Gives a file a second name, whose folder is made; where that is not possible, `target` is a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@functools.cache
def extension_file(name: str) -> Path:
    """The file of a DuckDB extension in its wheel (`duckdb-extension-<name>`), for this DuckDB.

    Raises ConfigError when the wheel is missing or made for another DuckDB.
    """
    import duckdb

    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        file = Path(place) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if file.is_file():
            return file
    raise ConfigError(
        f"no DuckDB extension {name!r} for DuckDB {duckdb.__version__} is installed",
        mend=f"install duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}",
    )
