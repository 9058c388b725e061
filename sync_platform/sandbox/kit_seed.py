"""Which records a `seed` request wants, before a simulator turns them into its own fields."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sync_platform.sandbox.kit_people import People, Person, misspell

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class SandboxError(Exception):
    """A control request that cannot be done: HTTP `status` with {"error", "field"}."""

    def __init__(self, message: str, field: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedOptions:
    """What a seed request asks for beside plain records; counts per field."""

    missing: Mapping[str, int] = field(default_factory=dict)  # valid records without this field
    invalid: Mapping[str, int] = field(default_factory=dict)  # records with an unusable value in it
    duplicates: int = 0  # on top of count: the e-mail of a valid record, typed otherwise
    older: int = 0  # on top of count: last changed before yesterday


class SeedRow(NamedTuple):
    """One record to make. Times in ms of the sandbox clock."""

    person: Person
    kind: str  # valid | missing | invalid | duplicate | older
    field: str | None  # the field that is missing or invalid
    created_at: int
    changed_at: int  # the last change by a user
    stamped_at: int  # the system's own stamp: never behind what was stored before this seed


def seed_rows(
    count: int, options: SeedOptions, *, people: People, rng: random.Random, now: int, newest: int, ties: int = 0
) -> list[SeedRow]:
    """The rows of one seed request in the order they are to be stored.

    `newest` is the stream's highest stamp so far: later seeds are stamped after it, as a vendor's
    own clock would, so that a reader that has moved on still sees them. `ties` > 0: runs of up to
    that many rows share one stamp, as a bulk load leaves them.
    """
    spoiled = [("missing", name) for name, n in options.missing.items() for _ in range(n)]
    spoiled += [("invalid", name) for name, n in options.invalid.items() for _ in range(n)]
    if len(spoiled) > count:
        raise SandboxError(f"options spoil {len(spoiled)} records, but count is {count}", "options")
    if options.duplicates and len(spoiled) == count:
        raise SandboxError("duplicates need at least one valid record to double", "options.duplicates")
    drawn = list(people.draw(count + options.older))
    kinds: list[tuple[Person, str, str | None]] = [(p, "valid", None) for p in drawn[:count]]
    places = rng.sample(range(count), len(spoiled))
    for place, (kind, name) in zip(places, spoiled, strict=True):
        kinds[place] = (kinds[place][0], kind, name)
    valid = [person for person, kind, _ in kinds if kind == "valid"]
    extra: list[tuple[Person, str, str | None]] = [(p, "older", None) for p in drawn[count:]]
    for _ in range(options.duplicates):
        person = rng.choice(valid)
        last = person.last.upper() if rng.random() < 0.5 else person.last
        extra.append((person._replace(email=misspell(person.email, rng), last=last), "duplicate", None))
    kinds.extend(extra)
    if extra:
        rng.shuffle(kinds)
    return _stamped(kinds, rng, now=now, newest=newest, ties=ties)


def _stamped(
    kinds: list[tuple[Person, str, str | None]], rng: random.Random, *, now: int, newest: int, ties: int
) -> list[SeedRow]:
    midnight = now - now % DAY_MS - DAY_MS  # yesterday's start, UTC
    start = max(now - 6 * HOUR_MS, midnight, min(newest + 1, now))
    moments = sorted(rng.choices(range(start, now + 1), k=len(kinds)))
    if ties > 0:
        _tie(moments, rng, ties)
    rows = []
    for (person, kind, name), moment in zip(kinds, moments, strict=True):
        if kind == "older":
            changed = midnight - rng.randrange(HOUR_MS, 60 * DAY_MS)
            created = changed - rng.randrange(0, 300 * DAY_MS)
            rows.append(SeedRow(person, kind, name, created, changed, moment if newest else changed))
        else:
            created = moment if rng.random() < 0.7 else moment - rng.randrange(DAY_MS, 400 * DAY_MS)
            rows.append(SeedRow(person, kind, name, created, moment, moment))
    return rows


def _tie(moments: list[int], rng: random.Random, ties: int) -> None:
    """Makes about half of the rows share their stamp with neighbours, in runs of 2..`ties`."""
    at = 0
    while at < len(moments):
        run = rng.randint(2, max(2, ties))
        if rng.random() < 0.5:
            last = min(at + run, len(moments)) - 1
            moments[at : last + 1] = [moments[last]] * (last + 1 - at)
            at = last + 1
        else:
            at += run
