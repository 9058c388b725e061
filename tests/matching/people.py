"""Two systems that know some of the same people, and the truth about who is who.

Every person has a row in one of the systems or in both; the second row is what another clerk made of the same person:
nicknames, typing errors, other spellings, moved houses, new e-mail addresses. Households share a telephone, twins share
all but the first name, some couples share a mailbox, namesakes share nothing but their name.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

FIELDS: Final = ("email", "firstname", "lastname", "phone", "city")
#: A first name and what the same person is called elsewhere.
FIRST: Final = {
    "William": "Bill", "Robert": "Bob", "Elizabeth": "Liz", "Katherine": "Kate", "Margaret": "Peggy",
    "Richard": "Dick", "Edward": "Ted", "Thomas": "Tom", "James": "Jim", "Michael": "Mike", "Christopher": "Chris",
    "Jennifer": "Jen", "Patricia": "Pat", "Susan": "Sue", "Deborah": "Debbie", "Anthony": "Tony", "Daniel": "Dan",
    "Alexander": "Alex", "Benjamin": "Ben", "Samuel": "Sam", "Joseph": "Joe", "Andrew": "Andy", "Nicholas": "Nick",
    "Matthew": "Matt", "Gregory": "Greg", "Jessica": "Jess", "Victoria": "Vicky", "Rebecca": "Becky",
    "Anna": "Anna", "Lena": "Lena", "Paul": "Paul", "Karin": "Karin", "Maria": "Maria", "Laura": "Laura",
    "Peter": "Peter", "Martin": "Martin", "Julia": "Julia", "Sophie": "Sophie", "David": "Dave", "Oliver": "Ollie",
}  # fmt: skip
#: Names with accents, and in other scripts, with the spelling another system has.
ACCENTED: Final = (
    ("José", "Núñez", "Jose", "Nunez"), ("François", "Lefèvre", "Francois", "Lefevre"),
    ("Jürgen", "Müller", "Jurgen", "Muller"), ("Zoë", "Brontë", "Zoe", "Bronte"),
    ("Łukasz", "Wójcik", "Lukasz", "Wojcik"),
    ("Søren", "Sørensen", "Soren", "Sorensen"), ("Björk", "Guðmundsdóttir", "Bjork", "Gudmundsdottir"),
    ("Çağla", "Yıldız", "Cagla", "Yildiz"), ("Ştefan", "Țepeș", "Stefan", "Tepes"),
    ("Jiří", "Dvořák", "Jiri", "Dvorak"),
)  # fmt: skip
SCRIPTS: Final = (
    ("Иван", "Петров", "Ivan", "Petrov"), ("Ольга", "Смирнова", "Olga", "Smirnova"),
    ("Дмитрий", "Соколов", "Dmitriy", "Sokolov"), ("Νίκος", "Παπαδόπουλος", "Nikos", "Papadopoulos"),
    ("Μαρία", "Γεωργίου", "Maria", "Georgiou"), ("伟", "王", "Wei", "Wang"), ("敏", "李", "Min", "Li"),
    ("محمد", "حسن", "Mhmd", "Hsn"), ("גיל", "כהן", "Gil", "Khn"), ("태희", "김", "Taehui", "Gim"),
)  # fmt: skip
_SYLLABLES: Final = (
    "ba", "ber", "bra", "dal", "den", "dor", "fen", "gar", "gri", "hal", "hen", "jor", "kal", "ken", "lam", "lin",
    "mar", "mon", "nor", "ner", "pal", "per", "rad", "ros", "sal", "ser", "stei", "tan", "ter", "ul", "val", "ver",
    "wal", "wen", "zan", "zim",
)  # fmt: skip
_ENDS: Final = (
    "man", "son", "berg", "ley", "ton", "ford", "wick", "stein", "ner", "ski", "sen", "er", "ing", "wood", "field",
)  # fmt: skip
_COMMON: Final = (
    "Smith", "Jones", "Brown", "Miller", "Davis", "Wilson", "Taylor", "Clark", "Lewis", "Walker", "Young", "Hall",
    "King", "Wright", "Green",
)  # fmt: skip
_CITIES: Final = (
    "Berlin", "Hamburg", "Vienna", "Zurich", "Geneva", "London", "Leeds", "Bristol", "Dublin", "Paris", "Lyon",
    "Madrid", "Porto", "Rome", "Milan", "Athens", "Warsaw", "Prague", "Oslo", "Bergen", "Malmo", "Turku", "Ghent",
    "Boston", "Denver", "Austin", "Seattle", "Chicago", "Toronto", "Sydney",
)  # fmt: skip
_DOMAINS: Final = ("mail.example", "post.example", "web.example", "inbox.example", "firm.example", "home.example")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One row. `person` is who it is; None is what a system does not know."""

    person: int
    email: str | None
    firstname: str | None
    lastname: str | None
    phone: str | None
    city: str | None


@dataclass(slots=True)
class World:
    """`source` and `target` rows; a source row is a target row if both are the same `person`."""

    source: list[Person] = field(default_factory=list)
    target: list[Person] = field(default_factory=list)

    def known(self) -> set[int]:
        """The people of the target."""
        return {row.person for row in self.target}


class _Office:
    """Makes people up."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._emails: set[str] = set()
        self._people = 0

    def person(self, **known: str | None) -> Person:
        """A new person, who has the `known` values."""
        chance = self.chance
        self._people += 1
        first = known.get("firstname") or chance.choice(list(FIRST))
        last = known.get("lastname") or self.last()
        made = Person(
            person=self._people,
            email=known.get("email") or self.email(first, last),
            firstname=first,
            lastname=last,
            phone=known.get("phone") or self.phone(),
            city=known.get("city") or chance.choice(_CITIES),
        )
        return made

    def last(self) -> str:
        chance = self.chance
        if chance.random() < 0.12:
            return chance.choice(_COMMON)
        return (chance.choice(_SYLLABLES) + chance.choice(_SYLLABLES) + chance.choice(_ENDS)).capitalize()

    def other(self, home: Sequence[Person]) -> str:
        """A first name that nobody of a household has."""
        return self.chance.choice([name for name in FIRST if name not in {one.firstname for one in home}])

    def email(self, first: str, last: str) -> str:
        """An address nobody else has."""
        letters = [c for c in f"{first}.{last}".lower() if c.isascii() and (c.isalpha() or c == ".")]
        stem = "".join(letters).strip(".") or "user"
        number = ""
        while (made := f"{stem}{number}@{self.chance.choice(_DOMAINS)}") in self._emails:
            number = str(self.chance.randrange(10, 9999))
        self._emails.add(made)
        return made

    def phone(self) -> str:
        return f"+49 {self.chance.randrange(150, 180)} {self.chance.randrange(1_000_000, 9_999_999)}"

    # ---- how another clerk writes it

    def typo(self, text: str) -> str:
        """The text with one typing error."""
        at = self.chance.randrange(1, len(text)) if len(text) > 1 else 0
        kind = self.chance.randrange(4)
        if kind == 0 and at + 1 < len(text):
            return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        if kind == 1:
            return text[:at] + text[at + 1 :] if len(text) > 3 else text + text[-1]
        if kind == 2:
            return text[:at] + text[at] + text[at:]
        return text[:at] + self.chance.choice(string.ascii_lowercase) + text[at + 1 :]

    def again(self, person: Person) -> Person:
        """The same person as the other system knows them: what identifies them is never gone altogether."""
        chance, told = self.chance, person
        if chance.random() < 0.35 and told.firstname in FIRST:
            told = replace(told, firstname=FIRST[told.firstname])
        if chance.random() < 0.10 and told.lastname:
            told = replace(told, lastname=self.typo(told.lastname))
        if chance.random() < 0.06 and told.firstname:
            told = replace(told, firstname=self.typo(told.firstname))
        if chance.random() < 0.15 and told.phone:
            told = replace(told, phone="0" + told.phone.removeprefix("+49 ").replace(" ", ""))
        if chance.random() < 0.10:
            told = replace(told, firstname=(told.firstname or "").upper(), lastname=(told.lastname or "").upper())
        if chance.random() < 0.04:
            told = replace(told, firstname=told.lastname, lastname=told.firstname)
        kept = chance.random()
        if kept < 0.70:  # the address stayed, as it is or as people type it
            if chance.random() < 0.3 and told.email:
                told = replace(told, email=f" {told.email.title()} ")
            if chance.random() < 0.15:
                told = replace(told, phone=chance.choice([None, self.phone()]))
            if chance.random() < 0.15:
                told = replace(told, city=chance.choice([None, chance.choice(_CITIES)]))
        else:  # it changed, got lost or was mistyped: telephone and city did not
            told = replace(told, email=self._other_email(told))
        return told

    def _other_email(self, person: Person) -> str | None:
        kind = self.chance.randrange(3)
        if kind == 0:
            return None
        if kind == 1 and person.email:
            return self.typo(person.email)
        return self.email(person.firstname or "", person.lastname or "")


def people(count: int, seed: int = 7) -> World:
    """`count` rows in each system, seven in ten of them the same people."""
    office = _Office(seed)
    world = World()
    shared = count * 7 // 10
    while len(world.source) < shared:
        for one in _household(office):
            if len(world.source) < shared:
                world.source.append(one)
                world.target.append(_elsewhere(office, one))
    _strangers(office, world, count)
    office.chance.shuffle(world.source)
    office.chance.shuffle(world.target)
    return world


def _household(office: _Office) -> Sequence[Person]:
    """One person, or some who live together and share a telephone."""
    kind = office.chance.random()
    one = office.person()
    if kind < 0.06:  # twins: all but the first name and the address
        return [
            one,
            office.person(firstname=office.other([one]), lastname=one.lastname, phone=one.phone, city=one.city),
        ]
    if kind < 0.12:
        return _family(office, one)
    if kind < 0.15:  # colleagues behind one switchboard
        return [one, *(office.person(phone=one.phone, city=one.city) for _ in range(3))]
    if kind < 0.19:
        first, last, *_ = office.chance.choice(ACCENTED)
        return [office.person(firstname=first, lastname=last)]
    if kind < 0.22:
        first, last, *_ = office.chance.choice(SCRIPTS)
        return [office.person(firstname=first, lastname=last)]
    return [one]


def _family(office: _Office, one: Person) -> list[Person]:
    home = [one]
    for _ in range(2):
        name = office.other(home)
        home.append(office.person(firstname=name, lastname=one.lastname, phone=one.phone, city=one.city))
    return home


def _elsewhere(office: _Office, one: Person) -> Person:
    spelt = {(first, last): (other, another) for first, last, other, another in (*ACCENTED, *SCRIPTS)}
    found = spelt.get((one.firstname or "", one.lastname or ""))
    if found and office.chance.random() < 0.7:
        one = replace(one, firstname=found[0], lastname=found[1])
    return office.again(one)


def _shared(one: Person) -> dict[str, str | None]:
    """What a couple has in common, the mailbox included."""
    return {"email": one.email, "lastname": one.lastname, "phone": one.phone, "city": one.city}


def _strangers(office: _Office, world: World, count: int) -> None:
    """Fills both systems up with people the other does not know, some of whom look like somebody it does."""
    known = list(world.source)
    for rows in (world.source, world.target):
        while len(rows) < count:
            kind, model = office.chance.random(), office.chance.choice(known)
            if kind < 0.06:  # a namesake
                rows.append(office.person(firstname=model.firstname, lastname=model.lastname))
            elif kind < 0.12:  # a sister or brother of somebody the other system knows
                home = [row for row in (*known, *world.source, *world.target) if row.phone == model.phone]
                shared = {"lastname": model.lastname, "phone": model.phone, "city": model.city}
                rows.append(office.person(firstname=office.other(home), **shared))
            else:
                rows.append(office.person())
    for _ in range(count // 500):  # couples who share a mailbox, one of them known here and the other there
        one = office.person()
        other = replace(office.person(), **{**_shared(one), "firstname": office.other([one])})
        world.source[office.chance.randrange(len(known), len(world.source))] = one
        world.target[office.chance.randrange(len(known), len(world.target))] = other
