"""The search index against a plain scan, over random histories."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sync_platform.sandbox.hubspot.filters import Search, Seen, key_of, parse
from sync_platform.sandbox.hubspot.objects import KINDS
from sync_platform.sandbox.hubspot.properties import PropertySet
from sync_platform.sandbox.hubspot.search_index import SearchIndex

KNOWN = PropertySet(KINDS["contacts"].properties, ("contactinformation",))
STAGES = ("lead", "customer", "other")
NAMES = ("Ann", "BOB", "Cyd Ann", "dee")


class Scan:
    """The same questions answered by looking at every write ever made."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, int, Seen | None]] = []

    def find(self, search: Search, at: int) -> list[int]:
        held = {id: seen for visible_at, id, seen in self.writes if visible_at <= at}
        rows = [seen for seen in held.values() if seen is not None]
        rows = [s for s in rows if not search.groups or any(all(f.matches(s) for f in g) for g in search.groups)]
        valued = sorted(
            ((k, s.id) for s in rows if (k := key_of(search.sort, s)) is not None), reverse=search.descending
        )
        return [id for _, id in valued] + sorted(s.id for s in rows if key_of(search.sort, s) is None)


def person(chance: random.Random, id: int, now: int) -> Seen:
    fields = {"email": f"p{id}@example.com", "firstname": chance.choice(NAMES)}
    if chance.random() < 0.7:
        fields["lifecyclestage"] = chance.choice(STAGES)
    if chance.random() < 0.7:
        fields["associatedcompanyid"] = str(chance.randint(1, 30))
    return Seen(id, now - id, now - now % 5, fields)


def condition(chance: random.Random, now: int) -> dict[str, Any]:
    number, time = chance.randint(0, 32), now - chance.randint(0, 300)
    return chance.choice(
        [
            {"propertyName": "lifecyclestage", "operator": "EQ", "value": chance.choice(STAGES)},
            {"propertyName": "lifecyclestage", "operator": "NOT_IN", "values": chance.sample(STAGES, 2)},
            {"propertyName": "lifecyclestage", "operator": "NOT_HAS_PROPERTY"},
            {"propertyName": "firstname", "operator": "IN", "values": ["ann", "bob"]},
            {"propertyName": "firstname", "operator": "CONTAINS_TOKEN", "value": "ann"},
            {"propertyName": "email", "operator": "EQ", "value": f"P{number}@example.com"},
            {"propertyName": "associatedcompanyid", "operator": chance.choice(["GT", "LTE"]), "value": number},
            {"propertyName": "associatedcompanyid", "operator": "IN", "values": [number, number + 1]},
            {"propertyName": "associatedcompanyid", "operator": "BETWEEN", "value": number, "highValue": number + 9},
            {"propertyName": "lastmodifieddate", "operator": chance.choice(["GTE", "LT", "EQ"]), "value": time},
            {"propertyName": "createdate", "operator": "GTE", "value": time},
            {"propertyName": "hs_object_id", "operator": chance.choice(["GT", "LTE"]), "value": number},
        ]
    )


def question(chance: random.Random, now: int) -> Search:
    groups = [
        {"filters": [condition(chance, now) for _ in range(chance.randint(1, 3))]} for _ in range(chance.randint(0, 3))
    ]
    sort = chance.choice(["", "-"]) + chance.choice(
        ["lastmodifieddate", "associatedcompanyid", "firstname", "hs_object_id"]
    )
    body = {
        "filterGroups": groups,
        "sorts": [sort],
        "limit": chance.randint(0, 25),
        "after": str(chance.randint(0, 30)),
    }
    return parse(body, KNOWN, max_groups=5, cap=10_000)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("burst", "rounds"), [(3, 80), (250, 16)])
def test_the_index_answers_like_a_scan_of_all_writes(seed: int, burst: int, rounds: int) -> None:
    chance = random.Random(f"{seed}/{burst}")
    index, scan, now, asked = SearchIndex(()), Scan(), 1_790_000_000_000, 0
    for _ in range(rounds):
        for _ in range(chance.randint(0, burst)):
            id = chance.randint(1, 10 * burst)
            seen = None if chance.random() < 0.1 else person(chance, id, now)
            visible_at = now + chance.randint(0, 60)
            index.write(id, seen, visible_at)
            scan.writes.append((visible_at, id, seen))
        now += chance.randint(0, 40)
        for _ in range(3):
            search, back = question(chance, now), chance.choice([0, 0, 10, 50])
            expected = scan.find(search, now - back)
            page = expected[search.after : search.after + search.limit]
            assert index.find(search, now, back) == (len(expected), page)
            asked += len(page)
    assert asked > 100
