"""What simulators are built from: stores with history, the world's clock, people, faults."""

from __future__ import annotations

import random

import pytest

from sync_platform.sandbox.faults import Fault, FaultBoard
from sync_platform.sandbox.kit import SandboxError, SeedOptions, Store, World, iso
from sync_platform.sandbox.kit_people import People, misspell, slug
from sync_platform.sandbox.kit_seed import DAY_MS, seed_rows
from sync_platform.sandbox.kit_store import HISTORY_MS, select
from sync_platform.sandbox.salesforce import SalesforceSimulator


class Clock:
    """A clock that stands still until set."""

    def __init__(self) -> None:
        self.ms = 1_000_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store("things", clock)


def test_a_store_keeps_no_nulls_and_tells_whether_a_write_changed_anything(store: Store, clock: Clock) -> None:
    record = store.insert("1", {"a": 1, "b": None}, created_at=clock.ms)
    assert record.fields == {"a": 1}
    assert store.patch("1", {"a": 1, "b": None}) is False
    assert store.patch("1", {"a": None, "b": 2}, updated_at=clock.ms + 5) is True
    assert (record.fields, record.updated_at, store.newest) == ({"b": 2}, clock.ms + 5, clock.ms + 5)


def test_a_record_can_be_seen_as_it_was(store: Store, clock: Clock) -> None:
    start = clock.ms
    record = store.insert("1", {"a": 1}, created_at=start)
    clock.ms += 1000
    store.patch("1", {"a": 2})
    clock.ms += 1000
    store.remove("1")
    seen = [record.as_of(start + after) for after in (-1, 0, 999, 1000, 1999, 2000)]
    assert [None if v is None else (v.fields["a"], v.deleted) for v in seen] == [
        None, (1, False), (1, False), (2, False), (2, False), (2, True),
    ]  # fmt: skip
    assert [v.deleted for _, v in select(store, start + 500)] == [False]
    assert [v.deleted for _, v in select(store)] == [True]
    store.restore("1")
    assert [r.id for r in store.live()] == ["1"]
    assert record.deleted_at is None


def test_history_is_trimmed_but_the_version_before_the_window_stays(store: Store, clock: Clock) -> None:
    record = store.insert("1", {"a": 0}, created_at=clock.ms)
    for n in range(1, 50):
        clock.ms += HISTORY_MS // 10
        store.patch("1", {"a": n})
    assert len(record.past or ()) <= 12
    seen = record.as_of(clock.ms - HISTORY_MS)
    assert seen is not None
    assert seen.fields["a"] == 39


def test_look_ups_follow_changes_deletions_and_purges(store: Store, clock: Clock) -> None:
    store.insert("1", {"mail": "A@x"}, created_at=clock.ms)
    assert [r.id for r in store.lookup("mail", "a@X", fold=str.lower)] == ["1"]
    store.insert("2", {"mail": "a@x"}, created_at=clock.ms)
    assert [r.id for r in store.lookup("mail", "a@x", fold=str.lower)] == ["1", "2"]
    store.patch("1", {"mail": "b@x"})
    assert [r.id for r in store.lookup("mail", "a@x", fold=str.lower)] == ["2"]
    store.purge("2")
    assert store.lookup("mail", "a@x", fold=str.lower) == []


def test_an_atomic_block_that_fails_leaves_nothing_behind() -> None:
    world = World([SalesforceSimulator], clock=lambda: 1_790_000_000.0)
    org = world.systems["salesforce"]
    store = org.store("Lead")
    store.insert("a", {"x": 1, "Email": "a"}, created_at=1)
    store.insert("b", {"x": 1}, created_at=1)
    assert len(store.lookup("Email", "a")) == 1

    def fail() -> None:
        with world.atomic(org):
            store.patch("a", {"x": 2, "Email": "c"}, updated_at=9)
            store.patch("a", {"x": 3})
            store.remove("b")
            store.insert("c", {"Email": "a"}, created_at=1)
            raise SandboxError("no", "field")

    with pytest.raises(SandboxError):
        fail()
    assert [(r.id, r.fields["x"], r.updated_at, r.deleted, r.past) for r in store] == [
        ("a", 1, 1, False, None), ("b", 1, 1, False, None),
    ]  # fmt: skip
    assert [r.id for r in store.lookup("Email", "a")] == ["a"]
    with world.atomic(org):
        store.patch("a", {"x": 4})
    assert store.journal is None
    assert [r.fields["x"] for r in store] == [4, 1]


def test_scheduled_actions_run_in_order_once_the_clock_has_passed() -> None:
    world = World([], clock=lambda: 1000.0)
    done: list[str] = []
    world.schedule(1_003_000, "a", lambda: done.append("late"))
    world.schedule(1_002_000, "b", lambda: done.append("early"))
    world.schedule(1_002_000, "a", lambda: done.append("second"))
    world.run_due()
    assert done == []
    world.advance(2)
    assert done == ["early", "second"]
    world.reset("a")
    world.advance(10)
    assert done == ["early", "second"]
    assert (iso(world.now_ms()), world.now().second) == ("1970-01-01T00:16:52.000Z", 52)


def test_people_are_distinct_and_their_addresses_belong_to_nobody() -> None:
    crowd = list(People(random.Random(1)).draw(3000))
    assert len({person.email.lower() for person in crowd}) == 3000
    assert all(person.email.endswith(".example.com") and person.email.isascii() for person in crowd)
    assert any(not person.last.isascii() for person in crowd)
    assert slug("Ångström & Söhne") == "angstrom---sohne"
    assert slug("佐藤") == "x"


def test_a_misspelt_address_is_the_same_one_typed_otherwise() -> None:
    rng = random.Random(1)
    for person in People(rng).draw(200):
        typed = misspell(person.email, rng)
        assert typed != person.email
        assert typed.strip().lower() == person.email.lower()


def test_seed_rows_lie_where_they_are_asked_to() -> None:
    now = 1_790_000_000_000
    options = SeedOptions(missing={"Email": 3}, invalid={"Email": 2}, duplicates=5, older=7)
    rng = random.Random(3)
    rows = seed_rows(20, options, people=People(rng), rng=rng, now=now, newest=0, ties=50)
    kinds = [row.kind for row in rows]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        "duplicate": 5, "invalid": 2, "missing": 3, "older": 7, "valid": 15,
    }  # fmt: skip
    yesterday = now - now % DAY_MS - DAY_MS
    for row in rows:
        assert (row.changed_at < yesterday) == (row.kind == "older")
        assert row.created_at <= row.changed_at <= row.stamped_at <= now


def test_a_fault_meets_only_what_it_matches_and_only_so_often() -> None:
    board = FaultBoard()
    board.put(Fault("crm", "500", "POST /a", 2, None, 0.0))
    board.put(Fault("crm", "503", "", None, 1.0, 0.0))
    chance = random.Random(1)

    def met(method: str, path: str, kinds: set[str], system: str = "crm") -> str | None:
        fault = board.take(system, method, path, kinds, chance)
        return None if fault is None else fault.kind

    both = {"500", "503"}
    assert met("POST", "/a/b", both, system="other") is None
    assert [met("POST", "/a/b", both) for _ in range(3)] == ["500", "500", "503"]
    assert met("GET", "/a", {"500"}) is None
    assert [fault.hits for fault in board.list()] == [2, 1]
    board.clear("other")
    assert len(board.list()) == 2
    board.clear("crm")
    assert board.list() == []
