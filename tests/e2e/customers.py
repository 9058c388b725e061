"""A hundred thousand customers as they really look, made the same way every time, with the truth about them.

Names carry emoji, quotes, backslashes, control characters, right-to-left and combining letters; times
come in many zones; text is null, empty or blank; some addresses are missing or broken; and some people
stand there twice or three times, their address written differently each time.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

DDL = """CREATE TABLE {name} (id bigint PRIMARY KEY, first_name text, last_name text, email text, company text,
         status text NOT NULL, signed_up text, timezone text, balance numeric(12,2), note text,
         updated_at timestamptz NOT NULL)"""

_FIRST = (
    "Anna", "BJÖRN", "  Chloé ", "D'Arcy", "Émile", "Fatma", "Gül", "Håkon", "Ірина", "Jürgen", "Kōji", "Łukasz",
    "María José", "Ngọc", "O'Brien", "Ƥétur", "Quentin \"Q\"", "Renée", "Søren", "Tomáš", "Ümit", "Vů", "Wei 伟",
    "Ximena", "Yağmur", "Zoë 😀", "👩‍👩‍👧‍👦", "عمر", "שרה", "e\u0301lodie", "a\\b", "tab\there", "line\nbreak",
    "semi;colon", "comma, inc", "NULL", "null", "undefined", "0", "-", "<b>bold</b>", "%s %d {x}", "' OR 1=1 --",
    "$$dollar$$", "\u200bzero", "Ⅷ", "ﬁ", "İ", "ß", "straße",
)  # fmt: skip
_LAST = (
    "Müller", "van der Berg", "de la Cruz", "O’Neill", "Šimůnek", "Þórsdóttir", "Nguyễn", "Đặng", "李", "김", "Иванов",
    "Papadopoulos", "McDonald", "Smith-Jones", "Smith", "SMITH", "smith ", "bin Ahmad", "Żółć", "Ångström", "D\"Quote",
    "Back\\slash", "Íñigo", "Öztürk", "Ō", "Ruiz 🏢", "x" * 120,
)  # fmt: skip
_COMPANIES = (
    "Acme, Inc.",
    "Müller & Söhne GmbH",
    'The "Best" Co',
    "株式会社テスト",
    "Café ☕",
    "S.A. de C.V.",
    "O'Reilly",
    "",
)
_STATUSES = ("new", "open", "won", "lost")
_ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC", "Pacific/Chatham")
_OFFSETS = ("+01:00", "-05:00", "+05:30", "+10:30", "Z", "+12:45")
_DOMAINS = ("example.com", "example.org", "mail.example.net", "sub.domain.example")
_BROKEN = (  # around a number that makes each different
    ("", "-no-at-sign"), ("", "-two@@example.com"), ("@", ".example.com"), ("", "-name@"), ("", "-name@nodot"),
    ("", "-spaces in@example.com"), ("", "-a@b@c.example"),
)  # fmt: skip
_NOTES = ("", " ", "call back\r\ntomorrow", "100 % sure", '{"json": true}', "𝕳ello", "ends with \\")
_START = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is known about the customers, by construction.

    An address is compared as `lower(trim(email))`. `winners` are the ids of the newest row of each
    valid address, ascending: what a target holds after `dedupe: {by: lower(trim(email)), keep: newest}`.
    """

    rows: int
    distinct: int  # different valid addresses
    duplicates: int  # rows with a valid address that a newer row has, too
    missing: int  # rows whose address is null, empty or blank
    missing_null: int  # ... of which null
    invalid: int  # rows with something that is no address (each stands alone)
    winners: pa.Array


def customers(rows: int = 100_000, seed: int = 7) -> tuple[pa.Table, Truth]:
    """The customers, in no order that means anything, and the truth about them."""
    dice = np.random.default_rng(seed)
    missing, invalid, duplicates = rows // 50, rows // 100, rows * 12 // 100
    distinct = rows - missing - invalid - duplicates
    # person: 0..distinct-1 has an address of its own; duplicates repeat a person; the rest have none
    person = np.concatenate(
        [np.arange(distinct), dice.integers(0, distinct, duplicates), np.arange(distinct, distinct + missing + invalid)]
    )
    kind = np.repeat([0, 1, 2, 3], [distinct, duplicates, missing, invalid])  # single, repeated, missing, invalid
    order = dice.permutation(rows)
    person, kind = person[order], kind[order]
    ids = np.arange(1, rows + 1)
    seconds = dice.permutation(rows)  # all different, so the newest row is certain
    email, nulls = _emails(dice, person, kind)
    first, last = dice.integers(0, len(_FIRST), rows), dice.integers(0, len(_LAST), rows)
    zone = dice.integers(0, len(_ZONES), rows)
    updated = pa.array(int(_START.timestamp() * 1e6) + seconds.astype(np.int64) * 1_000_001, pa.int64())
    table = pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "first_name": _some_null(dice, _taken(_FIRST, first)),
            "last_name": _taken(_LAST, last),
            "email": email,
            "company": _some_null(dice, _taken(_COMPANIES, dice.integers(0, len(_COMPANIES), rows))),
            "status": _taken(_STATUSES, dice.integers(0, len(_STATUSES), rows)),
            "signed_up": _signed_up(dice, zone),
            "timezone": _taken(_ZONES, zone),
            "balance": pa.array(dice.integers(-(10**9), 10**11, rows), pa.int64()).cast(pa.decimal128(19, 0)),
            "note": _some_null(dice, _taken(_NOTES, dice.integers(0, len(_NOTES), rows))),
            "updated_at": updated.cast(pa.timestamp("us", tz="UTC")),
        }
    )
    cents = pc.divide(table["balance"].cast(pa.decimal128(21, 2)), pa.scalar(100, pa.decimal128(3, 0)))
    table = table.set_column(
        table.schema.get_field_index("balance"), "balance", cents.cast(pa.decimal128(12, 2), safe=False)
    )
    truth = Truth(
        rows=rows,
        distinct=distinct,
        duplicates=duplicates,
        missing=missing,
        missing_null=nulls,
        invalid=invalid,
        winners=_winners(ids, person, kind, seconds),
    )
    return table, truth


def _winners(ids: np.ndarray, person: np.ndarray, kind: np.ndarray, seconds: np.ndarray) -> pa.Array:
    valid = kind <= 1
    by_age = np.argsort(seconds[valid])  # oldest first: the last row of a person to be written stays
    newest = np.zeros(int(person[valid].max(initial=0)) + 1, dtype=np.int64)
    newest[person[valid][by_age]] = ids[valid][by_age]
    return pa.array(np.sort(newest[newest > 0]), pa.int64())


def _emails(dice: np.random.Generator, person: np.ndarray, kind: np.ndarray) -> tuple[pa.Array, int]:
    """The addresses, spelled as people do, and how many of the missing ones are null."""
    number = pa.array(person).cast(pa.string())
    domain = _taken(_DOMAINS, person % len(_DOMAINS))
    plain = pc.binary_join_element_wise(pc.binary_join_element_wise("user", number, "."), domain, "@")
    style = pa.array(dice.integers(0, 6, len(person)))
    spelled = pc.choose(
        style,
        plain,
        plain,
        pc.utf8_upper(plain),
        pc.utf8_capitalize(plain),
        pc.binary_join_element_wise("  ", plain, ""),
        pc.binary_join_element_wise("", plain, "   ", ""),
    )
    head, tail = (_taken(tuple(part), person % len(_BROKEN)) for part in zip(*_BROKEN, strict=True))
    broken = pc.binary_join_element_wise(head, number, tail, "")
    empty = _taken((None, "", "   "), dice.integers(0, 3, len(person)))
    found = pc.if_else(pa.array(kind == 3), broken, pc.if_else(pa.array(kind == 2), empty, spelled))
    return found, int(found.null_count)


def _signed_up(dice: np.random.Generator, zone: np.ndarray) -> pa.Array:
    """Instants as text, each written with the offset of its row's zone in winter."""
    instants = pa.array(1_577_836_800 + dice.integers(0, 150_000_000, len(zone)), pa.int64()).cast(pa.timestamp("s"))
    local = pc.strftime(instants, format="%Y-%m-%dT%H:%M:%S")
    return pc.binary_join_element_wise(local, _taken(_OFFSETS, zone), "")


def _taken(pool: tuple[str | None, ...], places: np.ndarray) -> pa.Array:
    return pa.array(pool, pa.string()).take(pa.array(places))


def _some_null(dice: np.random.Generator, values: pa.Array) -> pa.Array:
    """The values, every tenth or so null."""
    return pc.if_else(pa.array(dice.random(len(values)) < 0.1), pa.scalar(None, pa.string()), values)


def load(url: str, table: pa.Table, name: str = "customers") -> None:
    """Makes the table in a PostgreSQL database and copies the customers into it."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(DDL.format(name=name).encode())
    with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(name, table, mode="append")
