"""The follower of one connection: what is stored together, what is confirmed when, and what makes a stream owe."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from sync_platform.connectors.capture import Behind, PositionLostError, Told
from sync_platform.errors import ConfigError, SyncError, TransientError
from sync_platform.ledger.captures import standings
from sync_platform.model import Event
from sync_platform.realtime.capture import Follower, Wanted
from sync_platform.state.database import Database
from tests.unit.warm.office import Office

NOON = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)


def event(number: int, key: str = "l1") -> Event:
    return Event(id=f"e{number}", stream="Lead", key=key, kind="updated", occurred_at=NOON)


def told(position: str, *events: Event, **more: Any) -> Told:
    return Told(events=events, position=position, committed_at=NOON, **more)


@dataclass
class Log:
    """A database's log, scripted: what is told, or raised, in turn. Keeps what was asked of it."""

    office: Office
    answers: list[Told | SyncError] = field(default_factory=list)
    size: int = 10
    opened: list[str | None] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    stored_when_confirmed: list[tuple[str | None, int]] = field(default_factory=list)
    refuses: SyncError | None = None
    capture: bool = True

    def capture_problems(self, streams: Sequence[str]) -> list[str]:
        return []

    def follow(self, streams: Sequence[str], since: str | None) -> Log:
        self.opened.append(since)
        if self.refuses is not None:
            error, self.refuses = self.refuses, None
            raise error
        self.start = since or "p0"
        return self

    def forget(self) -> None:
        """Nothing is kept."""

    def next(self, seconds: float) -> Told | None:
        if not self.answers:
            time.sleep(0.01)
            return None
        answer = self.answers.pop(0)
        if isinstance(answer, SyncError):
            raise answer
        return answer

    def confirm(self, position: str) -> None:
        """Looks, on a connection of its own, at what is durable now."""
        with psycopg.connect(self.office.database.url) as other:
            stored = other.execute("SELECT position FROM sync.captures").fetchone()
            count = other.execute("SELECT count(*) FROM sync.queue").fetchone()
        assert count is not None
        self.stored_when_confirmed.append((stored[0] if stored else None, count[0]))
        self.confirmed.append(position)

    def behind(self) -> Behind:
        return Behind(size=self.size, warn=1000)

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Scene:
    office: Office
    log: Log
    streams: list[str] = field(default_factory=lambda: ["Lead"])
    running: list[tuple[Follower, threading.Thread]] = field(default_factory=list)

    def follower(self) -> Follower:
        session = self.office.session()
        session._connectors["crm"] = self.log  # type: ignore[assignment]
        routes = {("crm", "lead"): ("leads",)}
        made = Follower(
            session, "crm", lambda: Wanted(streams=tuple(self.streams), routes=routes), self.office.said.append
        )
        thread = threading.Thread(target=made.run, daemon=True)
        self.running.append((made, thread))
        thread.start()
        return made

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.office.said
            time.sleep(0.01)

    def owes(self) -> dict[str, str]:
        return dict(self.office.rows("SELECT stream, reason FROM sync.owed_reads"))


@pytest.fixture
def scene(fresh_state: Database) -> Iterator[Scene]:
    """A log that tells nothing yet, and no follower."""
    office = Office(fresh_state)
    made = Scene(office, Log(office))
    yield made
    for follower, _ in made.running:
        follower.stop()
    for _, thread in made.running:
        thread.join(10)
        assert not thread.is_alive()
    office.lake.close()


def test_events_and_position_are_stored_together_before_the_position_is_confirmed(scene: Scene) -> None:
    scene.log.answers = [told("p1", event(1), event(2, "l2")), told("p2", event(3))]
    scene.follower()
    scene.until(lambda: scene.log.confirmed == ["p1", "p2"])
    assert scene.log.stored_when_confirmed == [("p1", 2), ("p2", 3)]
    assert [row[0] for row in scene.office.queue()] == ["l1", "l2", "l1"]
    one = standings(scene.office.database)["crm"]
    assert (one.position, one.stored, one.streams, one.follows) == ("p2", 3, ("Lead",), True)


def test_what_is_told_twice_is_stored_once(scene: Scene) -> None:
    scene.log.answers = [told("p1", event(1)), TransientError("cut"), told("p1", event(1)), told("p2", event(2))]
    scene.follower()
    scene.until(lambda: scene.log.confirmed == ["p1", "p1", "p2"])
    assert scene.log.opened == [None, "p1"]
    assert len(scene.office.queue()) == 2


def test_a_stream_followed_for_the_first_time_owes_a_compare_and_only_then(scene: Scene) -> None:
    first = scene.follower()
    scene.until(lambda: "Lead" in scene.owes())
    first.stop()
    scene.until(lambda: not scene.running[0][1].is_alive())
    scene.office.rows("DELETE FROM sync.owed_reads RETURNING 1")
    scene.log.answers = [told("p1", event(1))]
    scene.follower()
    scene.until(lambda: scene.log.confirmed == ["p1"])
    assert scene.owes() == {}
    scene.streams.append("Case")
    scene.until(lambda: "Case" in scene.owes())
    assert scene.owes().keys() == {"Case"}
    assert scene.log.opened[-1] == "p1"


@pytest.mark.parametrize("where", ["at the start", "while following"])
def test_a_lost_position_makes_every_followed_stream_owe_a_compare_and_following_begins_anew(
    scene: Scene, where: str
) -> None:
    scene.log.answers = [told("p1", event(1))]
    scene.follower()
    scene.until(lambda: scene.log.confirmed == ["p1"])
    scene.office.rows("DELETE FROM sync.owed_reads RETURNING 1")
    if where == "at the start":
        scene.log.refuses = PositionLostError("the slot is gone")
        scene.log.answers = [TransientError("cut")]
    else:
        scene.log.answers = [PositionLostError("the slot is gone")]
    scene.until(lambda: scene.log.opened[-1] is None and len(scene.log.opened) > 1)
    scene.until(lambda: "Lead" in scene.owes())
    assert any("the slot is gone" in one for one in scene.office.said)
    scene.log.answers = [told("p9", event(9))]
    scene.until(lambda: scene.log.confirmed[-1] == "p9")


def test_emptied_and_altered_streams_and_keys_too_long_for_the_inbox_owe_a_compare(scene: Scene) -> None:
    scene.follower()
    scene.until(lambda: "Lead" in scene.owes())
    scene.office.rows("DELETE FROM sync.owed_reads RETURNING 1")
    scene.log.answers = [told("p1", event(1), altered=frozenset({"Case"}), emptied=frozenset({"Lead"}))]
    scene.until(lambda: scene.log.confirmed == ["p1"])
    assert scene.owes() == {"Lead": "it was emptied or replaced", "Case": "its columns changed"}
    scene.log.answers = [told("p2", event(2, "x" * 501), event(3, "l3"))]
    scene.until(lambda: scene.log.confirmed[-1] == "p2")
    assert scene.owes()["Lead"] == "a row's key is longer than 500 bytes"
    assert [row[0] for row in scene.office.queue()] == ["l1", "l3"]


def test_a_second_follower_stands_by_and_a_replaced_one_stores_nothing(scene: Scene) -> None:
    scene.follower()
    scene.until(lambda: scene.log.opened == [None])
    scene.follower()
    scene.until(lambda: any("standing by" in one for one in scene.office.said))
    assert scene.log.opened == [None]
    scene.office.rows("UPDATE sync.captures SET owner = gen_random_uuid() RETURNING 1")
    scene.log.answers = [told("p1", event(1))]
    scene.until(lambda: any("followed by another process" in one for one in scene.office.said))
    assert scene.office.queue() == []
    assert scene.log.confirmed == []


def test_what_a_person_must_mend_is_told_and_tried_again_later(scene: Scene) -> None:
    scene.log.refuses = ConfigError("wal_level is replica", mend="set wal_level = logical")
    scene.follower()
    scene.until(lambda: scene.office.rows("SELECT state FROM sync.captures") == [("refused",)])
    ((reason,),) = scene.office.rows("SELECT reason FROM sync.captures")
    assert "set wal_level = logical" in reason
    assert not standings(scene.office.database)["crm"].follows


def test_a_log_that_grows_for_us_is_told_loudly(scene: Scene) -> None:
    scene.log.size = 2000
    scene.follower()
    scene.until(lambda: any("its disk may fill" in one for one in scene.office.said))
    one = standings(scene.office.database)["crm"]
    assert (one.behind, one.warn) == (2000, 1000)
    assert "keeps 2,000 bytes" in str(one.reason)
