"""Invented people and companies, the same for the same random source."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in text.split())


FIRST = _words(
    "Anna Ben Carla David Elena Fatima George Hannah Ivan Julia Karim Laura Marco Nina Omar Paula Quentin Rosa Samuel "
    "Tara Umar Vera Walter Xenia Yusuf Zoe José Zoë André Chloë François Björn Siân Łukasz Søren Çağla Jürgen Anaïs "
    "Renée Núria Øyvind Šárka Nguyễn 美咲 Олена D'Arcy Mary_Jane Jean-Luc"
)
LAST = _words(
    "Smith Johnson Brown Garcia Miller Davis Martinez Lopez Wilson Anderson Taylor Moore Jackson Martin Lee Thompson "
    "White Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Torres O'Connor O'Brien D'Angelo Müller "
    "Schröder Åkesson Peña Muñoz García-López Dvořák Kowalczyk Çelik Nguyễn Øster Ångström Sørensen 佐藤 Шевченко "
    "van_der_Berg McAllister St._Pierre Ní_Bhriain"
)
WORDS = _words(
    "Acme Globex Initech Umbra Stark Wayne Hooli Vandelay Soylent Cyber North Silver Blue Green Alpine Harbor Summit "
    "Orion Atlas Nimbus Zenith Crescent Maple Cedar Granite Copper Café Señor Müller Åland Brücke Château"
)
TRADES = _words(
    "Logistics Foods Systems Partners Labs Textiles Energy Clinics Motors Media Robotics Bakery Insurance Travel "
    "Software Consulting Gardens Optics Tools_&_Sons"
)
SUFFIXES = ("", "", "", " Inc.", " GmbH", " Ltd", " S.A.", ' "24/7"', " 🚀", ", Inc.")
CITIES = (
    ("Berlin", "DE"), ("Zürich", "CH"), ("São Paulo", "BR"), ("Austin", "US"), ("Leeds", "GB"), ("Kraków", "PL"),
    ("Lyon", "FR"), ("Osaka", "JP"), ("Malmö", "SE"), ("Montréal", "CA"), ("A Coruña", "ES"), ("Київ", "UA"),
)  # fmt: skip
TITLES = ("CEO", "CTO", "Buyer", "Head of Sales", "Office Manager", "VP, Operations", "Director", "Engineer", "")


class Person(NamedTuple):
    """One invented person at one invented company. `email` is unique within a `People`."""

    first: str
    last: str
    email: str
    company: str
    domain: str
    phone: str
    city: str
    country: str  # ISO 3166 two letters
    title: str  # may be empty
    number: int  # counts up from 0


def slug(text: str) -> str:
    """The text in lower-case ASCII letters, digits and dashes; never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    kept = "".join(c if c.isalnum() else "-" for c in plain).strip("-")
    return kept or "x"


class People:
    """An endless crowd with distinct e-mail addresses, all under the reserved example.com."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._number = 0
        self._slugs: dict[str, str] = {}

    def _slug(self, text: str) -> str:
        known = self._slugs.get(text)
        if known is None:
            known = self._slugs[text] = slug(text)
        return known

    def draw(self, count: int) -> Iterator[Person]:
        """The next `count` people."""
        rng = self._rng
        firsts, lasts = rng.choices(FIRST, k=count), rng.choices(LAST, k=count)
        heads, trades = rng.choices(WORDS, k=count), rng.choices(TRADES, k=count)
        suffixes = rng.choices(SUFFIXES, k=count)
        cities, titles = rng.choices(CITIES, k=count), rng.choices(TITLES, k=count)
        digits = rng.choices(range(1_000_000, 9_999_999), k=count)
        for first, last, head, trade, suffix, city, title, digit in zip(
            firsts, lasts, heads, trades, suffixes, cities, titles, digits, strict=True
        ):
            number = self._number
            self._number += 1
            domain = f"{self._slug(head)}-{self._slug(trade)}.example.com"
            local = f"{self._slug(first)}.{self._slug(last)}{number}"
            if number % 37 == 5:  # people type their address as they like
                local = local.title()
            phone = f"+1 (555) {digit // 10000}-{digit % 10000:04d}" if number % 3 else f"+49 30 {digit}"
            company = f"{head} {trade}{suffix}"
            yield Person(first, last, f"{local}@{domain}", company, domain, phone, city[0], city[1], title, number)


def misspell(email: str, rng: random.Random) -> str:
    """The same address as a careless person types it: other case, blanks around; never equal to `email`."""
    variants = [email.upper(), f" {email}", f"{email} ", f"  {email.title()} ", email.swapcase()]
    return rng.choice([v for v in variants if v != email])
