"""Reads from a streaming replica that knows all the primary knew when the read began.

A read waits for the replica to replay the primary's log up to where it stood at the beginning. So what it returns is
never older than it claims: a complete read proves absence, pays debts of capture and is ordered with events, as one of
the primary does. The watermark comes from the replica's own snapshot (see `watermark`), as its transactions end in
the order in which they are replayed.

https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from sync_platform.connectors.postgres.session import Server, literal
from sync_platform.errors import ConfigError, SyncError, TransientError

_LOOK: Final = 0.05
_WHO: Final = """
SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' || current_database() AS who,
       pg_is_in_recovery() AS replica
"""
_END: Final = """
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text AS lsn
"""
_BEHIND: Final = """
SELECT CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff({lsn}::pg_lsn, pg_last_wal_replay_lsn())::bigint END AS bytes
"""


@dataclass
class Replica:
    """A primary and a replica of it that is read instead, for `patience` seconds waited for."""

    primary: Server
    server: Server
    patience: float
    _known: bool = field(default=False, init=False)

    def caught_up(self) -> Server:
        """The replica, once it has replayed all that the primary has at this moment.

        Raises TransientError when it does not within `patience`, ConfigError when it is no replica of the primary,
        and what a connection raises when one of the two cannot be reached.
        """
        problem = None if self._known else self.problem()
        if problem is not None:
            raise ConfigError(problem, field="replica_url", mend="let replica_url name a streaming replica of the url")
        self._known = True
        with self.primary.session() as session:
            end = session.rows(_END, "asking where the log ends")["lsn"][0].as_py()
        deadline = time.monotonic() + self.patience
        with self.server.session() as session:
            while (behind := self._behind(session.rows(_BEHIND.format(lsn=literal(end)), "asking")["bytes"])) > 0:
                if time.monotonic() >= deadline:
                    raise TransientError(
                        f"the read replica at {self.server.place} is {behind:,} bytes of log behind the primary and "
                        f"did not catch up in {self.patience:g} s",
                        mend="the next run tries again; see the replica's load and recovery_min_apply_delay, raise "
                        "replica_patience_seconds, or take replica_url out to read from the primary",
                    )
                time.sleep(_LOOK)
        return self.server

    def _behind(self, told: pa.ChunkedArray) -> int:
        """Bytes that are still to be replayed; a promoted replica has all it will ever have, and may lack the rest."""
        value = told[0].as_py()
        if value is None:
            self._known = False
            raise TransientError(
                f"{self.server.place} was a replica and is one no longer",
                mend="let url name the primary and replica_url a replica of it, or take replica_url out",
            )
        return int(value)

    def problem(self) -> str | None:
        """Why the replica cannot be read instead of the primary; None when it can be."""
        told = []
        for server in (self.primary, self.server):
            with server.session() as session:
                told += session.rows(_WHO, "asking who it is").to_pylist()
        if told[0]["who"] != told[1]["who"]:
            return f"{self.server.place} holds another database than {self.primary.place}: it is no replica of it"
        if not told[1]["replica"]:
            return f"{self.server.place} is no replica: it is the primary itself, or was promoted"
        return None

    def trouble(self) -> str | None:
        """As `problem`, for a report: what keeps it from being asked counts, too."""
        try:
            return self.problem()
        except SyncError as error:
            return f"the read replica: {error}"
