"""The other side of a connector under the laws: a simulator of the system, or a real database.

Both are used alike: seed, edit and delete records as a person would, and say what is true. Nothing
here names a system's objects: connectors are found by looking, fields by `discover`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import psycopg
from mariadb_side import MariaDB
from psycopg import sql

import sync_platform.connectors
from sync_platform.connectors.connector import Connector
from sync_platform.connectors.quota import MemoryQuota
from sync_platform.model import Field, Stream
from sync_platform.sandbox.server import SYSTEMS, SandboxThread, env_lines


class Clock:
    """Time that passes only when someone sleeps: the connector's and the simulator's."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += max(0.0, seconds)


class Side(Protocol):
    """One system of the other side. Keys are texts; `truth` holds live records only."""

    over_http: bool

    def connector(self, *, without: Sequence[str] = ()) -> Connector:
        """A new connection, without the named settings."""

    def truth(self, stream: str) -> dict[str, dict[str, Any]]:
        """Every live record's fields by key."""

    def seed(self, stream: str, count: int) -> list[str]:
        """New records; their keys."""

    def edit(self, stream: str, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Changes some records, all at one instant."""

    def delete(self, stream: str, keys: Sequence[str]) -> None:
        """Deletes some records."""

    def later(self, seconds: float) -> None:
        """Lets time pass at both sides."""

    def reset(self) -> None:
        """Empties it."""

    def complaints(self) -> list[Any]:
        """Requests the system would not have accepted."""


class Simulated:
    """A system of the sandbox, on a clock of its own."""

    over_http = True

    def __init__(self, kind: type[Connector]) -> None:
        self.kind = kind
        self.clock = Clock()
        self._sandbox = SandboxThread(systems=[kind.system], clock=self.clock).start()
        self.control = self._sandbox.control
        prefix = f"{kind.system.upper()}_"
        pairs = (line.split("=", 1) for line in env_lines(self._sandbox.port, [kind.system]))
        self.settings = {name.removeprefix(prefix).lower(): value for name, value in pairs}

    def stop(self) -> None:
        """Stops the sandbox."""
        self._sandbox.stop()

    def connector(self, *, without: Sequence[str] = (), **others: Any) -> Any:
        """A connection on the shared clock: nothing sleeps for real."""
        known = self.kind.model_fields
        wanted = {name: value for name, value in self.settings.items() if name in known and name not in without}
        made: Any = self.kind(**{**wanted, **others})
        made._quota = MemoryQuota(clock=self.clock, sleep=self.clock.sleep)
        made.http._clock, made.http._sleep = self.clock, self.clock.sleep
        return made

    def secrets(self) -> list[str]:
        """The values that no text may show."""
        hidden = (name for name, field in self.kind.model_fields.items() if field.repr is False)
        return [self.settings[name] for name in hidden if self.settings.get(name)]

    def truth(self, stream: str) -> dict[str, dict[str, Any]]:
        answered = self.control.get(f"records/{self.kind.system}/{stream}")["records"]
        return {str(each["id"]): each["fields"] for each in answered}

    def seed(self, stream: str, count: int) -> list[str]:
        body = {"system": self.kind.system, "stream": stream, "count": count, "options": {}}
        return [str(key) for key in self.control.post("seed", body)["ids"]]

    def edit(self, stream: str, changes: Mapping[str, Mapping[str, Any]]) -> None:
        people = [{"id": key, "fields": dict(fields)} for key, fields in changes.items()]
        self.control.post(f"records/{self.kind.system}/{stream}", people)

    def delete(self, stream: str, keys: Sequence[str]) -> None:
        self.control.delete(f"records/{self.kind.system}/{stream}", list(keys))

    def later(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def reset(self) -> None:
        self.control.post("reset", {"system": self.kind.system})
        for fault in self.control.get("faults").get("faults", []):
            self.fault(fault["kind"], match=fault.get("match"), times=0)

    def fault(self, kind: str, **rule: Any) -> None:
        """Injects a fault (see the control API)."""
        told = {name: value for name, value in rule.items() if value is not None}
        self.control.post("faults", {"system": self.kind.system, "kind": kind, **told})

    def fault_writes(self, kind: str, **rule: Any) -> None:
        """Injects a fault into requests that write, whichever method the connector writes with."""
        for method in ("POST ", "PATCH ", "PUT ", "DELETE "):
            self.fault(kind, match=method, **rule)

    def hits(self) -> int:
        """How often faults struck."""
        return sum(each.get("hits", 0) for each in self.control.get("faults")["faults"])

    def log(self) -> list[dict[str, Any]]:
        """Every request since the last reset."""
        requests: list[dict[str, Any]] = self.control.get(f"log?system={self.kind.system}")["requests"]
        return requests

    def complaints(self) -> list[Any]:
        return [each for each in self.control.get("violations")["violations"] if each["system"] == self.kind.system]


class Database:
    """A private PostgreSQL with a table of people; MySQL's connector is tried on a MariaDB (see `mariadb_side`)."""

    over_http = False
    STREAMS = ("law_people",)

    def __init__(self, kind: type[Connector]) -> None:
        from tests.private_postgres import PrivateServer

        self.kind = kind
        self._server = PrivateServer()
        self._url = self._server.create("laws")
        self.reset()

    def stop(self) -> None:
        """Stops the server."""
        self._server.close()

    def _run(self, query: Any, values: Sequence[Any] = ()) -> list[Any]:
        with psycopg.connect(self._url, autocommit=True) as db:
            cursor = db.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def connector(self, *, without: Sequence[str] = ()) -> Connector:
        return self.kind(url=self._url)

    def truth(self, stream: str) -> dict[str, dict[str, Any]]:
        rows = self._run(sql.SQL("SELECT id, email, name FROM {}").format(sql.Identifier(stream)))
        return {str(key): {"id": key, "email": email, "name": name} for key, email, name in rows}

    def seed(self, stream: str, count: int) -> list[str]:
        unique = uuid.uuid4().hex[:8]
        insert = sql.SQL(
            "INSERT INTO {} (email, name) SELECT %s || n || '@example.com', 'Person ' || n "
            "FROM generate_series(1, %s) n RETURNING id"
        ).format(sql.Identifier(stream))
        return [str(key) for (key,) in self._run(insert, [unique, count])]

    def edit(self, stream: str, changes: Mapping[str, Mapping[str, Any]]) -> None:
        update = sql.SQL(
            "UPDATE {} t SET name = c.name, updated_at = clock_timestamp() "
            "FROM jsonb_to_recordset(%s::jsonb) AS c(id bigint, name text) WHERE t.id = c.id"
        ).format(sql.Identifier(stream))
        self._run(update, [json.dumps([{"id": int(key), **fields} for key, fields in changes.items()])])

    def delete(self, stream: str, keys: Sequence[str]) -> None:
        self._run(sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(sql.Identifier(stream)), [[int(k) for k in keys]])

    def later(self, seconds: float) -> None:
        """A database keeps no index that lags."""

    def reset(self) -> None:
        for stream in self.STREAMS:
            self._run(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(stream)))
            create = "CREATE TABLE {} (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, email text UNIQUE,"
            create += " name text, updated_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            self._run(sql.SQL(create).format(sql.Identifier(stream)))

    def complaints(self) -> list[Any]:
        return []


@dataclass(frozen=True)
class Subject:
    """A stream of a connector: what a law is put to."""

    kind: type[Connector]
    stream: str

    def __str__(self) -> str:
        return f"{self.kind.system}/{self.stream}"

    @property
    def over_http(self) -> bool:
        """Whether faults of HTTP can strike it."""
        return "base_url" in self.kind.model_fields


@cache
def connectors() -> tuple[type[Connector], ...]:
    """Every connector class below `sync_platform.connectors`."""
    found: dict[type[Connector], None] = {}
    for module in pkgutil.walk_packages(sync_platform.connectors.__path__, "sync_platform.connectors."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and issubclass(value, Connector) and not inspect.isabstract(value):
                found[value] = None
    return tuple(sorted(found, key=lambda kind: kind.system))


@cache
def subjects() -> tuple[Subject, ...]:
    """Every stream of every connector."""
    return tuple(
        Subject(kind, name)
        for kind in connectors()
        for name in (kind.streams if "base_url" in kind.model_fields else Database.STREAMS)
    )


_SIDES: dict[type[Connector], Any] = {}


def side_of(kind: type[Connector]) -> Any:
    """The other side of a connector, started at first use and kept for the session."""
    if kind not in _SIDES:
        if "base_url" not in kind.model_fields:
            _SIDES[kind] = MariaDB(kind, Database.STREAMS) if kind.system == "mysql" else Database(kind)
        else:
            assert kind.system in SYSTEMS, f"{kind.system} has a connector but no simulator: no law can be put to it"
            _SIDES[kind] = Simulated(kind)
    return _SIDES[kind]


def stop_all() -> None:
    """Stops every other side that was started."""
    while _SIDES:
        _SIDES.popitem()[1].stop()


def fields_of(connector: Connector, stream: str) -> dict[str, Field]:
    """The stream's fields by name."""
    return {one.name: Field.from_arrow(one) for one in connector.discover(stream)}


def text_field(connector: Connector, stream: Stream, example: Mapping[str, Any]) -> str:
    """A plain text field that a person may edit: what things are called by, where there is one."""
    schema = connector.discover(stream.name)
    fit = [
        name
        for name, field in fields_of(connector, stream.name).items()
        if str(field.type) in ("string", "large_string")
        and not (field.readonly or field.unique or field.folded or field.values or name in stream.key)
        and name not in stream.natural_keys
        and isinstance(example.get(name), str)
        and (schema.field(name).metadata or {}).get(b"vendor_type", b"string") == b"string"
    ]
    named = [name for name in fit if "name" in name.lower() or "subject" in name.lower()]
    return (named or fit)[0]


def new_record(connector: Connector, stream: Stream, example: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record that does not exist yet: required ones, natural keys and the text field."""
    fields, unique = fields_of(connector, stream.name), uuid.uuid4().hex[:12]
    text = text_field(connector, stream, example)
    made: dict[str, Any] = {text: f"New {unique}"}
    for name, field in fields.items():
        if name in stream.natural_keys or (field.unique and not field.readonly and name not in stream.key):
            made[name] = f"{unique}@law.example.com" if "@" in str(example.get(name)) else f"{unique}.law.example.com"
        elif field.required and not field.readonly and name not in made and name not in stream.key:
            made[name] = example[name]
    return made


def chunks(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The keys in parts."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
