"""Telling people: one message per change of state, never one per failure.

What is so now is looked at again and again; `sync.alerts` holds what each recipient was last told about it.
Only a difference is sent. A recipient that could not be reached is told at the next look.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sync_platform.state.database import Database

OK: Final = "ok"
VARIABLE: Final = "SYNC_ALERT_"
#: A look that takes longer leaves the rest to the next one: Dagster ends an evaluation after a minute.
LOOK_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a person reads: what happened, why, what to do, and what happens next."""

    title: str
    happened: str
    reason: str = ""
    mend: str = ""
    follows: str = ""

    @property
    def body(self) -> str:
        """The sentences, one a line."""
        parts = [("", self.happened), ("Reason: ", self.reason), ("What to do: ", self.mend), ("Next: ", self.follows)]
        return "\n".join(lead + text for lead, text in parts if text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is so now about one subject of a sync (`*`: of several). `message` is asked for once it is needed."""

    sync: str
    subject: str
    state: str
    recipients: tuple[str, ...]
    message: Callable[[], Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a look led to, in words: who was told what, and who could not be reached."""

    sent: tuple[str, ...]
    unreached: tuple[str, ...]

    def __str__(self) -> str:
        parts = [*self.sent, *self.unreached]
        return "; ".join(parts) if parts else "nothing changed since it was last told"


def variable_of(entry: str) -> str | None:
    """The environment variable that holds the URL of an entry of `errors.alert`; None: it is a URL itself."""
    if "://" in entry:
        return None
    if entry.startswith("env:"):
        return entry.removeprefix("env:").strip()
    return VARIABLE + re.sub(r"\W", "_", entry).upper()


def address_of(entry: str) -> str | None:
    """The apprise URL of an entry; None: its variable is not set, so nobody is told."""
    name = variable_of(entry)
    return entry if name is None else os.environ.get(name) or None


def label_of(entry: str) -> str:
    """How an entry is called where others read it: a URL may hold a password or a token."""
    if variable_of(entry) is not None:
        return entry
    return f"{entry.partition('://')[0]}://…{hashlib.blake2b(entry.encode(), digest_size=4).hexdigest()}"


def understood(address: str) -> bool:
    """Whether apprise knows what to do with a URL."""
    import apprise

    return bool(apprise.Apprise().add(address))


def tell(database: Database, cases: Iterable[Case]) -> Told:
    """Sends a message to every recipient who was last told otherwise."""
    with database.connection() as connection:
        rows = connection.execute("SELECT sync, subject, state FROM sync.alerts").fetchall()
    before = {(sync, subject): str(state) for sync, subject, state in rows}
    begun = time.monotonic()
    sent: list[str] = []
    unreached: list[str] = []
    for case in cases:
        for entry in dict.fromkeys(case.recipients):
            address, subject = address_of(entry), f"{case.subject} -> {label_of(entry)}"
            if address is None or not _changed(before.get((case.sync, subject), OK), case.state):
                continue
            if time.monotonic() - begun > LOOK_SECONDS:
                return Told(sent=tuple(sent), unreached=(*unreached, "the others are told at the next look"))
            message = case.message()
            if _told_once(database, case, subject, address, message):
                sent.append(f"told {label_of(entry)}: {message.title}")
            else:
                unreached.append(f"could not reach {label_of(entry)} (again at the next look): {message.title}")
    return Told(sent=tuple(sent), unreached=tuple(unreached))


def _changed(before: str, now: str) -> bool:
    return before != now


def _told_once(database: Database, case: Case, subject: str, address: str, message: Message) -> bool:
    """Sends under the lock of what was told, so that two who look at once send one message; whether it is told."""
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO sync.alerts (sync, subject, state) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (case.sync, subject, OK),
        )
        row = connection.execute(
            "SELECT state FROM sync.alerts WHERE sync = %s AND subject = %s FOR UPDATE", (case.sync, subject)
        ).fetchone()
        if row is not None and not _changed(str(row[0]), case.state):
            return True
        if not _send(address, message, good=case.state == OK):
            return False
        connection.execute(
            "UPDATE sync.alerts SET state = %s, changed_at = now() WHERE sync = %s AND subject = %s",
            (case.state, case.sync, subject),
        )
    return True


def _send(address: str, message: Message, *, good: bool) -> bool:
    import apprise

    channel = apprise.Apprise(asset=apprise.AppriseAsset(app_id="sync-platform", app_desc="sync-platform"))
    if not channel.add(address):
        return False
    kind = apprise.NotifyType.SUCCESS if good else apprise.NotifyType.FAILURE
    return bool(channel.notify(title=message.title, body=message.body, notify_type=kind))
