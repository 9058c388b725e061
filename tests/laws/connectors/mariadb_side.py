"""A private MariaDB with a table of people, as the laws use a database."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sync_platform.connectors.connector import Connector
from tests.private_mariadb import shared


class MariaDB:
    """The other side of the MySQL connector. Keys are texts; `truth` holds live records only."""

    over_http = False

    def __init__(self, kind: type[Connector], streams: Sequence[str]) -> None:
        self.kind = kind
        self._streams = streams
        self._server = shared()
        self._url = self._server.create("laws")
        self._person = self._server.person("laws")
        self.reset()

    def stop(self) -> None:
        """Closes the connection; the server is shared with other tests."""
        self._person.close()

    def _run(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._person.cursor() as cursor:
            cursor.execute(query, values or None)
            return list(cursor.fetchall())

    def connector(self, *, without: Sequence[str] = ()) -> Connector:
        """A new connection."""
        return self.kind(url=self._url)

    def truth(self, stream: str) -> dict[str, dict[str, Any]]:
        """Every live record's fields by key."""
        rows = self._run(f"SELECT id, email, name FROM `{stream}`")
        return {str(key): {"id": key, "email": email, "name": name} for key, email, name in rows}

    def seed(self, stream: str, count: int) -> list[str]:
        """New records; their keys."""
        unique = uuid.uuid4().hex[:8]
        self._run(
            f"INSERT INTO `{stream}` (email, name) SELECT concat(%s, seq, '@example.com'), concat('Person ', seq) "
            f"FROM seq_1_to_{count}",
            [unique],
        )
        return [str(key) for (key,) in self._run(f"SELECT id FROM `{stream}` WHERE email LIKE %s", [f"{unique}%"])]

    def edit(self, stream: str, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Changes some records, all at one instant."""
        rows = [(int(key), fields["name"]) for key, fields in changes.items()]
        for start in range(0, len(rows), 500):
            some = rows[start : start + 500]
            wanted = " UNION ALL ".join(["SELECT %s AS id, %s AS name"] * len(some))
            self._run(
                f"UPDATE `{stream}` t JOIN ({wanted}) c ON c.id = t.id SET t.name = c.name, t.updated_at = now(6)",
                [value for row in some for value in row],
            )

    def delete(self, stream: str, keys: Sequence[str]) -> None:
        """Deletes some records."""
        if keys:
            self._run(f"DELETE FROM `{stream}` WHERE id IN ({', '.join(str(int(key)) for key in keys)})")

    def later(self, seconds: float) -> None:
        """A database keeps no index that lags."""

    def reset(self) -> None:
        """Empties it."""
        for stream in self._streams:
            self._run(
                f"CREATE OR REPLACE TABLE `{stream}` (id BIGINT AUTO_INCREMENT PRIMARY KEY, email VARCHAR(100) UNIQUE,"
                " name TEXT, updated_at TIMESTAMP(6) NOT NULL DEFAULT now(6))"
            )

    def complaints(self) -> list[Any]:
        """A database has none."""
        return []
